"""Lengths in every form, and what is no length."""

from __future__ import annotations

import array
import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lengthwise as lw

LENGTHS = [9000, 12, 700, 12]


class Tensor:
    """What matters of a PyTorch tensor, which has no buffer."""

    def __init__(self, items: Any, dtype: str = "torch.int64", ndim: int = 1) -> None:
        self.items, self.dtype, self.ndim = items, dtype, ndim

    def tolist(self) -> Any:
        """Return its items."""
        return self.items


class Index:
    """A whole number of another type, as of NumPy or PyTorch."""

    def __index__(self) -> int:
        return 12


FORMS: list[Any] = [
    tuple(LENGTHS),
    (length for length in LENGTHS),
    array.array("q", LENGTHS),
    array.array("H", LENGTHS),
    memoryview(array.array("I", LENGTHS)),
    (ctypes.c_long * 4)(*LENGTHS),
    (ctypes.c_uint16.__ctype_be__ * 4)(*LENGTHS),
    *(np.array(LENGTHS, dtype=kind) for kind in ["i2", "u2", "i4", "u4", "i8", "u8", ">i8", "<u4"]),
    np.array(LENGTHS, dtype=object),
    np.array([LENGTHS, LENGTHS])[0],
    np.repeat(LENGTHS, 2)[::2],
    list(np.array(LENGTHS)),
    [9000, Index(), np.uint16(700), 12],
    Tensor(LENGTHS),
    Tensor(LENGTHS, "torch.int32"),
]


@pytest.mark.parametrize("lengths", FORMS, ids=lambda form: type(form).__name__)
def test_every_form_of_a_row_is_the_same_batch(planner: lw.Planner, lengths: Any) -> None:
    plan = planner.plan(lengths)
    assert plan.seq_lens == tuple(LENGTHS)
    assert all(type(length) is int for length in plan.seq_lens)


def test_a_range_is_a_batch(planner: lw.Planner) -> None:
    assert planner.plan(range(10, 40, 10)).seq_lens == (10, 20, 30)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=30), st.sampled_from("<>"))
def test_arrays_say_what_lists_say(lengths: list[int], order: str) -> None:
    planner = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", context="384k")
    of_array = planner.plan(np.array(lengths, dtype=f"{order}i8"))
    assert of_array == planner.plan(lengths)


def test_a_torch_tensor_is_a_batch(planner: lw.Planner) -> None:
    torch = pytest.importorskip("torch")
    for kind in [torch.int32, torch.int64, torch.int16]:
        tensor = torch.tensor(LENGTHS, dtype=kind)
        assert planner.plan(tensor).seq_lens == tuple(LENGTHS)
        assert planner.plan(list(tensor)).seq_lens == tuple(LENGTHS)
    with pytest.raises(lw.InputTypeError, match="float32"):
        planner.plan(torch.tensor([1.0]))


ROW = "it must be one row of whole numbers of tokens"
WHOLE = "is not a length; lengths are whole numbers of tokens from 1 to 1099511627776"

WRONG_TYPES: list[tuple[Any, str]] = [
    (None, f"lengths is None; {ROW}"),
    (5, f"lengths is 5; {ROW}"),
    (1.5, f"lengths is 1.5; {ROW}"),
    ("123", f"lengths is '123'; {ROW}"),
    (b"123", f"lengths is b'123'; {ROW}"),
    (bytearray(b"1"), f"lengths is bytearray(b'1'); {ROW}"),
    ({1: 2}, f"lengths is {{1: 2}}; {ROW}"),
    ({1}, f"lengths is {{1}}; {ROW}"),
    ([7, 1.0], f"lengths, index 1: 1.0 {WHOLE}"),
    ([7, float("nan")], f"lengths, index 1: nan {WHOLE}"),
    ([True], f"lengths, index 0: True {WHOLE}"),
    ([None], f"lengths, index 0: None {WHOLE}"),
    (["3"], f"lengths, index 0: '3' {WHOLE}"),
    ([[1, 2], [3]], f"lengths, index 0: [1, 2] {WHOLE}"),
    (np.array([1.0]), f"lengths is ndarray of float64; {ROW}"),
    (np.array([True]), f"lengths is ndarray of bool; {ROW}"),
    (np.array(["3"]), f"lengths is ndarray of <U1; {ROW}"),
    (np.array([1, 2], dtype="M8[s]"), f"lengths is ndarray of datetime64[s]; {ROW}"),
    (np.array([1j]), f"lengths is ndarray of complex128; {ROW}"),
    (np.array([1.5, 2], dtype=object), f"lengths, index 0: 1.5 {WHOLE}"),
    (array.array("d", [1.0]), f'lengths is array of format "d"; {ROW}'),
    (Tensor([1.0], "torch.float32"), f"lengths is Tensor of torch.float32; {ROW}"),
    (Tensor([True], "torch.bool"), f"lengths is Tensor of torch.bool; {ROW}"),
]

WRONG_VALUES: list[tuple[Any, str]] = [
    ([], "lengths holds no length; a batch needs at least one sequence"),
    (np.array([]), "lengths holds no length; a batch needs at least one sequence"),
    (Tensor([], "torch.float32"), "lengths holds no length; a batch needs at least one sequence"),
    ([7, 0], "lengths, index 1: 0 tokens; every sequence needs at least 1"),
    (np.array([7, 0]), "lengths, index 1: 0 tokens; every sequence needs at least 1"),
    ([-3], f"lengths, index 0: -3 {WHOLE}"),
    (np.array([7, -3], dtype=np.int8), f"lengths, index 1: -3 {WHOLE}"),
    (np.array([-(2**63)]), f"lengths, index 0: -9223372036854775808 {WHOLE}"),
    ([2**64], f"lengths, index 0: 18446744073709551616 {WHOLE}"),
    ([10**5000], "lengths, index 0: "),
    ([7, 384_001], "lengths, index 1: 384001 tokens are more than the context of 384000"),
    ([2**64 - 1], "lengths, index 0: 18446744073709551615 tokens are more than the context"),
    (np.array([2**63], dtype=np.uint64), "lengths, index 0: 9223372036854775808 tokens are more"),
    (np.array([[1, 2]]), f"lengths is ndarray of 2 dimensions; {ROW}"),
    (np.ones((2, 2, 2), dtype=int), f"lengths is ndarray of 3 dimensions; {ROW}"),
    (np.array(3), f"lengths is ndarray of 0 dimensions; {ROW}"),
    (Tensor([[1]], ndim=2), f"lengths is Tensor of 2 dimensions; {ROW}"),
]


@pytest.mark.parametrize(("lengths", "message"), WRONG_TYPES, ids=repr)
def test_what_is_no_row_of_numbers_is_a_type_error(
    planner: lw.Planner, lengths: Any, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        planner.plan(lengths)
    assert type(caught.value) is lw.InputTypeError
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("lengths", "message"), WRONG_VALUES, ids=lambda _: "")
def test_what_is_no_length_is_a_value_error(
    planner: lw.Planner, lengths: Any, message: str
) -> None:
    with pytest.raises(ValueError, match="lengths") as caught:
        planner.plan(lengths)
    assert type(caught.value) is lw.InputError
    assert str(caught.value).startswith(message)


def test_what_an_iterator_raises_is_passed_on(planner: lw.Planner) -> None:
    def lengths() -> Any:
        yield 7
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        planner.plan(lengths())


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.dates(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_anything_else_is_one_error_of_this_package(anything: Any) -> None:
    planner = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", context="384k")
    told: lw.LengthwiseError | None = None
    try:
        assert planner.plan(anything).seq_lens == tuple(anything)
    except lw.LengthwiseError as error:
        told = error
    assert told is None or str(told).startswith("lengths")
    assert not isinstance(told, lw.InternalError)


@pytest.mark.parametrize("mask", [[False, True], [False, False], np.ma.nomask])
def test_an_array_with_a_mask_is_refused(planner: lw.Planner, mask: Any) -> None:
    masked: Any = np.ma.array([9000, 700], mask=mask)
    message = "lengths is MaskedArray, whose mask would be lost"
    with pytest.raises(lw.InputTypeError, match=message) as caught:
        planner.plan(masked)
    assert "compressed()" in (caught.value.hint or "")
    assert planner.plan(masked.compressed()).seq_lens == tuple(masked.compressed())
