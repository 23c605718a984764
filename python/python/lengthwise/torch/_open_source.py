"""From a data set to a source of batches."""

# What data sets have is not known before they are there.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, SupportsIndex

from torch.utils.data import IterableDataset

from lengthwise._lengthwise import BatchSchedule, BatchStream
from lengthwise.errors import InfeasibleError, InputError, InputTypeError
from lengthwise.torch._agreement import agreed, shared
from lengthwise.torch._document_lengths import document_lengths, lengths_digest
from lengthwise.torch._map_source import MapSource
from lengthwise.torch._source import Source, excerpt_name
from lengthwise.torch._stream_source import StreamSource


@dataclass(frozen=True)
class BatchRules:
    """Which sequences make which batch, and how many batches are asked for.

    Attributes
    ----------
    context : int or str or None
        The longest sequence in tokens; that of the planner if it is None.
    overlong : str
        What becomes of longer documents.
    min_tokens : int or str
        The shortest sequence in tokens.
    tokens, sequences : int or str or None
        When a batch is full.
    seed : int or None
        Of the order; without one, documents come as they are.
    epochs : int or None
        After how many epochs batches end.
    steps : int or None
        After how many batches they end.
    depth : int
        How many batches are drawn ahead.
    """

    context: SupportsIndex | str | None
    overlong: str
    min_tokens: SupportsIndex | str
    tokens: SupportsIndex | str | None
    sequences: SupportsIndex | None
    seed: SupportsIndex | None
    epochs: SupportsIndex | None
    steps: SupportsIndex | None
    depth: SupportsIndex

    def of_stream(self, planner: Any) -> dict[str, Any]:
        """Return what `BatchStream` takes."""
        context = self.context
        if context is None:
            context = getattr(planner, "context", None)
        if context is None:
            raise InputTypeError("context is missing, and the planner has none")
        return {
            "context": context,
            "overlong": self.overlong,
            "min_tokens": self.min_tokens,
            "tokens": self.tokens,
            "sequences": self.sequences,
        }


def open_source(
    dataset: Any,
    rules: BatchRules,
    lengths: str | Iterable[int] | None,
    planner: Any,
    num_ids: int,
) -> Source:
    """Return a source of batches; a collective call of all ranks.

    Raises
    ------
    InputError
        What was given can't be used, differs between ranks, or has a sequence that no group has
        memory for: on every rank.
    """
    is_map = _agreed_kind(dataset, rules)
    arguments = agreed(
        lambda: _checked(rules, planner), lambda found: found, "the arguments of batches"
    )
    if not is_map:
        if lengths is not None:
            raise InputTypeError("lengths are given for a data set that can only be iterated")
        epochs = None if rules.epochs is None else int(rules.epochs)
        return agreed(
            lambda: StreamSource(dataset, arguments, epochs, num_ids),
            lambda source: source.rules,
            "the data sets",
        )
    known = document_lengths(dataset, lengths)

    def schedule() -> BatchSchedule:
        made = BatchSchedule(known, **arguments, seed=rules.seed, epochs=rules.epochs)
        document, start, stop = made.longest
        name = excerpt_name(f"document {document}", start, stop, known[document])
        _check_budget(planner, name, stop - start)
        return made

    made = agreed(schedule, lambda _: None, "the batches")
    recorded = {
        "context": made.context,
        "overlong": made.overlong,
        "min_tokens": made.min_tokens,
        "seed": None if rules.seed is None else int(rules.seed),
        "num_documents": len(known),
        "lengths": lengths_digest(known).hex(),
    }
    return MapSource(dataset, known, made, recorded, num_ids)


def _agreed_kind(dataset: Any, rules: BatchRules) -> bool:
    """Return whether items have numbers, once all ranks have been given the same arguments."""
    given = shared(lambda: (_is_map(dataset), asdict(rules)), "their data sets' kind")
    first_kind, first = given[0]
    for rank, (kind, arguments) in enumerate(given):
        if kind != first_kind:
            msg = f"the data sets of ranks 0 and {rank} are of different kinds: one has items with "
            raise InputError(msg + "numbers, the other can only be iterated")
        for name, value in arguments.items():
            if value != first[name]:
                msg = f"{name} is {value!r} on rank {rank} and {first[name]!r} on rank 0"
                raise InputError(msg, hint="all ranks must be given the same arguments")
    return first_kind


def _is_map(dataset: Any) -> bool:
    if isinstance(dataset, Mapping):
        msg = (
            f"the data set is {type(dataset).__name__}, a mapping of {', '.join(map(str, dataset))}"
        )
        raise InputTypeError(msg, hint="give one of its splits")
    is_text = isinstance(dataset, (str, bytes))
    has_numbers = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    # PyTorch's class of those has the method all the same.
    if has_numbers and not is_text and not isinstance(dataset, IterableDataset):
        return True
    if is_text or not hasattr(dataset, "__iter__"):
        msg = f"the data set is {type(dataset).__name__}, which has neither items nor an order"
        raise InputTypeError(msg, hint="give what has __len__ and __getitem__, or __iter__")
    return False


def _checked(rules: BatchRules, planner: Any) -> dict[str, Any]:
    arguments = rules.of_stream(planner)
    context = BatchStream(**arguments).context
    longest = getattr(planner, "context", None)
    if longest is not None and context > longest:
        msg = f"context is {context} tokens, and that of the planner {longest}"
        raise InputError(msg, hint="give the planner the longer one")
    if rules.epochs is not None:
        # The schedule says so too, but there is none where lengths are not known.
        BatchSchedule([1], context=1, tokens=1, epochs=rules.epochs)
    return {**arguments, "context": context}


def _check_budget(planner: Any, name: str, seq_len: int) -> None:
    """Refuse a sequence for which no group has memory."""
    explain = getattr(planner, "explain", None)
    if explain is None:
        return
    explanation = explain(seq_len)
    if explanation.possible_degrees:
        return
    shortest, longest = 0, seq_len
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        if explain(middle).possible_degrees:
            shortest = middle
        else:
            longest = middle
    msg = f"{name} is a sequence of {seq_len} tokens; the longest that any group has memory for "
    msg += f"has {shortest} ({explanation.reason})"
    hint = f"give context={shortest} or less, with overlong='split', 'truncate' or 'skip'"
    raise InfeasibleError(msg, hint=hint, seq_len=seq_len)
