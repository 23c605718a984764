"""The package as a whole: what it has is documented, typed and where it says."""

from __future__ import annotations

import inspect
from importlib import metadata, resources

import pytest

import lengthwise as lw

CLASSES = [getattr(lw, name) for name in lw.__all__ if inspect.isclass(getattr(lw, name))]


def test_all_names_are_there_in_order() -> None:
    assert lw.__all__ == sorted(lw.__all__)
    assert len(CLASSES) == len(lw.__all__) - 2
    assert metadata.version("lengthwise") == lw.__version__
    assert resources.files("lengthwise").joinpath("py.typed").is_file()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_and_member_is_documented(kind: type) -> None:
    assert inspect.getdoc(kind)
    assert kind.__module__.startswith("lengthwise")
    for name, member in vars(kind).items():
        if name.startswith("_") or isinstance(member, (int, float, bool, str, tuple)):
            continue
        is_documented = inspect.isdatadescriptor(member) or inspect.isroutine(member)
        is_field = type(member).__name__ in {"NoneType", "member_descriptor"}
        if is_documented and not is_field:
            assert inspect.getdoc(member), f"{kind.__name__}.{name}"


def test_methods_say_what_they_take() -> None:
    assert str(inspect.signature(lw.Planner.ahead)) == "(self, batches, /, *, depth=4)"
    assert "planner='adaptive'" in str(inspect.signature(lw.Planner))
    assert "min_degree=1" in str(inspect.signature(lw.Rules))


@pytest.mark.parametrize(
    "kind",
    [lw.Plan, lw.Planner, lw.Profile, lw.Rules, lw.Explanation],
    ids=lambda kind: kind.__name__,
)
def test_objects_are_frozen(kind: type, planner: lw.Planner) -> None:
    known = {
        lw.Plan: planner.plan([512]),
        lw.Planner: planner,
        lw.Profile: planner.profile,
        lw.Rules: planner.rules,
        lw.Explanation: planner.explain(512),
    }
    with pytest.raises(AttributeError):
        known[kind].anything = 3  # pyright: ignore[reportAttributeAccessIssue]
    if kind not in (lw.Planner, lw.Profile, lw.Plan, lw.Rules):
        with pytest.raises(TypeError):
            kind()
