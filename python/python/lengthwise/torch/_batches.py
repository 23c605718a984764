"""The steps of a run over a data set, and the place to go on at."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

from lengthwise._lengthwise import Census
from lengthwise.errors import InputError, InputTypeError
from lengthwise.torch._arguments import at_least
from lengthwise.torch._plan_limits import PlanLimits
from lengthwise.torch._source import Source
from lengthwise.torch._step import Step
from lengthwise.torch._step_reader import MakeStep, StepReader, of_reader

#: The version of what `Batches.state_dict` returns.
VERSION = 1

#: No data set has as many documents, sequences or epochs.
MOST = 1 << 62


class Batches:
    """The steps of a run over a data set; `ContextParallel.batches` makes it.

    To iterate is a collective call of all ranks at every step. Iterating again goes on after the
    last step that was handed out.

    Its position is what `state_dict` returns, for ``torch.distributed.checkpoint`` too: that after
    the last step that was handed out, whatever has been drawn or read ahead.
    """

    def __init__(
        self,
        source: Source,
        planner: Callable[[], Any],
        make_step: MakeStep,
        limits: PlanLimits,
        *,
        begin_step: Callable[[Step], Step],
        end_step: Callable[[], None],
        steps: SupportsIndex | None,
        depth: SupportsIndex,
    ) -> None:
        self._source = source
        self._planner = planner
        self._make_step = make_step
        self._limits = limits
        self._begin_step = begin_step
        self._end_step = end_step
        self._steps = None if steps is None else at_least("steps", steps, 0)
        self._depth = at_least("depth", depth, 1)
        self._position = source.start
        self._num_steps = 0
        self._reader: StepReader | None = None
        # Moved on by whatever makes those that iterate already wrong.
        self._iteration = 0

    @property
    def num_steps(self) -> int:
        """How many steps have been handed out since the start of the data, before a resume too."""
        return self._num_steps

    @property
    def census(self) -> Census:
        """What documents become in one epoch, and what is lost.

        Of a data set that can only be iterated, what the documents that were read so far became.
        """
        return self._source.census

    def __len__(self) -> int:
        """Return how many steps there are, those handed out already included.

        Raises
        ------
        TypeError
            There is no end, or it isn't known: neither `steps` nor `epochs` is given, or only
            `epochs` for a data set that can only be iterated.
        """
        left = self._source.num_batches_after(self._position)
        if left is None:
            if self._steps is None:
                raise TypeError("it isn't known how many steps there are; give steps=")
            return self._steps
        total = self._num_steps + left
        return total if self._steps is None else min(total, self._steps)

    def __iter__(self) -> Iterator[Step]:
        """Give the steps that are left."""
        self._iteration += 1
        return self._run(self._iteration)

    def state_dict(self) -> dict[str, Any]:
        """Return where to go on: after the last step that was handed out.

        It holds on any number of ranks, and for another number of tokens or sequences in a batch.

        Returns
        -------
        dict
            Of numbers and text.
        """
        return {
            "version": VERSION,
            "num_steps": self._num_steps,
            "position": dict(self._position),
            "rules": dict(self._source.rules),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another run was.

        Parameters
        ----------
        state : mapping
            What `state_dict` has returned.

        Raises
        ------
        InputError, InputTypeError
            It is of another data set or of other rules, or is none.
        """
        _check_mapping("the position is", state)
        if state.get("version") != VERSION:
            msg = f"the position has the version {state.get('version')!r}, not {VERSION}"
            raise InputError(msg)
        missing = {"num_steps", "position", "rules"} - state.keys()
        if missing:
            raise InputError(f"the position has no {min(missing)}")
        num_steps = at_least("num_steps of the position", state["num_steps"], 0)
        _check_mapping("the position's rules are", state["rules"])
        rules = self._source.rules
        names = {"lengths": "the lengths of the documents"}
        for name, value in state["rules"].items():
            if name not in rules:
                raise InputError("the position is of a data set of another kind")
            if value != rules[name]:
                if name in names:
                    raise InputError(f"{names[name]} are not those that the position is of")
                raise InputError(f"{name} is {rules[name]!r}, and {value!r} in the position")
        if rules.keys() != state["rules"].keys():
            raise InputError("the position is of a data set of another kind")
        position = self._checked(state["position"])
        self._stop()
        self._source.seek(position)
        self._position = position
        self._num_steps = num_steps
        self._iteration += 1

    def _checked(self, position: Any) -> dict[str, Any]:
        """Return a position in the source, which has the fields and types of its first."""
        _check_mapping("the place in the data is", position)
        found: dict[str, Any] = {}
        for name, first in self._source.start.items():
            if name not in position:
                raise InputError(f"the place in the data has no {name}")
            value = position[name]
            if isinstance(first, str):
                if not isinstance(value, str):
                    raise InputTypeError(f"{name} of the place in the data is {value!r}, not text")
            else:
                least = 1 if name == "epoch" else 0
                value = at_least(f"{name} of the place in the data", value, least)
                if value > MOST:
                    raise InputError(
                        f"{name} of the place in the data is {value}; that is no place"
                    )
            found[name] = value
        return found

    def _run(self, iteration: int) -> Iterator[Step]:
        self._check_current(iteration)
        self._stop()
        self._source.seek(self._position)
        reader = StepReader(self._source, self._planner, self._limits, self._depth)
        self._reader = reader
        try:
            while self._steps is None or self._num_steps < self._steps:
                self._check_current(iteration)
                # Before the next is drawn, whose plan follows from what the last one took.
                self._end_step()
                taken = reader.take(f"step {self._num_steps + 1}")
                if taken is None:
                    return
                step, num_labels = taken
                made = of_reader(step, num_labels, self._make_step)
                self._position = step.planned.drawn.position
                self._num_steps += 1
                if num_labels == 0:
                    msg = f"step {self._num_steps} has no label, so its loss and gradients are 0"
                    warnings.warn(msg, stacklevel=2)
                yield self._begin_step(made)
            self._end_step()
        finally:
            reader.close()

    def _check_current(self, iteration: int) -> None:
        if iteration != self._iteration:
            msg = (
                "these steps are over: others of the same data were begun, or the position changed"
            )
            raise InputError(msg)

    def _stop(self) -> None:
        """Let nothing be drawn any longer."""
        if self._reader is not None:
            self._reader.close()
            self._reader.join()
            self._reader = None


def _check_mapping(what_is: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        msg = f"{what_is} {type(value).__name__}; state_dict returns a mapping"
        raise InputTypeError(msg)
