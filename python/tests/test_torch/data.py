"""Data sets and what ranks are given of them; everything here runs in a world."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as checkpoint
from gradients import faults_of, of_one_process, sequences_of
from models import mesh, sharded, whole_model
from steps import error_of

import lengthwise as lw
from lengthwise.torch import ContextParallel
from lengthwise.torch._document_lengths import document_lengths
from lengthwise.torch._random_steps import plan_of


class MixedPlanner:
    """Plans groups of random degrees, so that ranks come together in many ways."""

    context = 40

    def __init__(self, seed: int = 0) -> None:
        self.num_ranks = dist.get_world_size()
        self._seed = seed

    def plan(self, lengths: list[int], /) -> Any:
        """A plan that depends on the lengths alone."""
        choice = random.Random(f"{self._seed} {lengths}")
        left = choice.sample(range(len(lengths)), len(lengths))
        micro_batches: list[Any] = []
        while left:
            ranks = choice.sample(range(self.num_ranks), self.num_ranks)
            groups: list[Any] = []
            while ranks and left:
                degree = choice.randint(1, len(ranks))
                members, ranks = ranks[:degree], ranks[degree:]
                count = choice.randint(1, 3)
                groups.append((members, left[:count]))
                left = left[count:]
            micro_batches.append(groups)
        return plan_of(micro_batches, lengths)


class Documents:
    """A map-style data set that remembers what was read of it."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.items[index]


class Stream:
    """An iterable data set, with a state of its own or without."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.num_read = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.num_read += 1
            yield item


class StatefulStream:
    """An iterable data set that goes on where it was."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.num_read = 0
        self._at = 0

    def __iter__(self) -> Iterator[Any]:
        while self._at < len(self.items):
            self._at += 1
            self.num_read += 1
            yield self.items[self._at - 1]
        self._at = 0

    def state_dict(self) -> dict[str, Any]:
        """How many items it has given."""
        return {"at": self._at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._at = state["at"]


class RefilledStream(StatefulStream):
    """A stream whose state is not exact, as that of a buffer which is filled anew."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lose an item."""
        self._at = state["at"] + (state["at"] > 0)


def documents(count: int = 30, longest: int = 90) -> list[dict[str, list[int]]]:
    """Documents, of which some are longer than the context of `MixedPlanner`."""
    choice = random.Random(5)
    lens = [choice.choice([1, 2, 5, 17, 40, 41, choice.randint(1, longest)]) for _ in range(count)]
    return sequences_of(lens, seed=9)


def dataset_of(kind: str, items: list[Any]) -> Any:
    """A data set of a kind."""
    import datasets

    if kind in ("hugging face", "hugging face stream", "shuffled stream"):
        columns = {name: [item[name] for item in items] for name in ("input_ids", "labels")}
        whole = datasets.Dataset.from_dict(columns)
        if kind == "hugging face":
            return whole
        stream = whole.to_iterable_dataset(num_shards=3)
        return stream.shuffle(seed=3, buffer_size=7) if kind == "shuffled stream" else stream
    kinds: dict[str, Any] = {
        "list": list,
        "documents": Documents,
        "stream": Stream,
        "stateful stream": StatefulStream,
        "refilled stream": RefilledStream,
    }
    return kinds[kind](items)


def context_parallel(planner: Any = None, name: str = "llama") -> ContextParallel:
    """A model on all ranks, with a planner."""
    planner = MixedPlanner() if planner is None else planner
    return ContextParallel(planner, sharded(whole_model(name)), mesh())


def whole_sequences(step: Any) -> list[list[tuple[int, int]]]:
    """The sequences of a step as pairs of id and target, sorted; the same on every rank."""
    mine = [
        (
            each.index,
            each.share.ranks,
            each.share.group_rank,
            each.share.seq_lens,
            list(zip(each.input_ids[0].tolist(), each.targets.tolist(), strict=True)),
        )
        for each in step
        if each.num_tokens
    ]
    outcomes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(outcomes, mine)
    packs: dict[Any, dict[int, Any]] = {}
    for of_rank in outcomes:
        for index, ranks, group_rank, seq_lens, tokens in of_rank:
            packs.setdefault((index, ranks, seq_lens), {})[group_rank] = tokens
    found: list[list[tuple[int, int]]] = []
    for (_, _, seq_lens), pieces in packs.items():
        pack = [pair for group_rank in sorted(pieces) for pair in pieces[group_rank]]
        assert len(pack) == sum(seq_lens)
        for seq_len in seq_lens:
            found.append(pack[:seq_len])
            pack = pack[seq_len:]
    return sorted(found)


def of_an_epoch(kind: str, count: int = 30, **options: Any) -> dict[str, Any]:
    """The sequences of one epoch, and what is said of them."""
    cp = context_parallel()
    batches = cp.batches(
        dataset_of(kind, documents(count)), **{"tokens": 120, "epochs": 1, **options}
    )
    try:
        length = len(batches)
    except TypeError:
        length = None
    steps = [(step.num_labels, whole_sequences(step)) for step in batches]
    census = batches.census
    return {
        "steps": [sequences for _, sequences in steps],
        "num_labels": [num for num, _ in steps],
        "length": (length, None if length is None else len(batches)),
        "census": (census.num_documents, census.num_tokens),
        "again": len(list(batches)),
    }


def first_steps(
    kind: str, count: int, state: Any = None, is_loaded_first: bool = False
) -> tuple[list[Any], Any, int | None]:
    """The sequences of some steps, where to go on, and how many documents were read."""
    cp = context_parallel()
    dataset = dataset_of(kind, documents())
    if is_loaded_first:
        cp.load_state_dict(state)
    batches = cp.batches(dataset, tokens=120)
    if state is not None and not is_loaded_first:
        cp.load_state_dict(state)
    found: list[Any] = []
    for step in batches:
        found.append(whole_sequences(step))
        if len(found) == count:
            break
    return found, cp.state_dict(), getattr(dataset, "num_read", None)


def go_on_after_a_break() -> dict[str, Any]:
    """The sequences of steps in one loop and in several, and of two loops at once."""
    cp = context_parallel()
    found: dict[str, Any] = {"one": [], "several": []}
    items = documents()
    for step in cp.batches(dataset_of("stream", items), tokens=120, steps=7):
        found["one"].append(whole_sequences(step))
    batches = cp.batches(dataset_of("stateful stream", items), tokens=120, steps=7)
    for count in (1, 3, 100):
        for step in batches:
            found["several"].append(whole_sequences(step))
            count -= 1
            if count == 0:
                break
    found["length"] = (len(batches), batches.num_steps)
    batches = cp.batches(dataset_of("list", items), tokens=120)
    first, second = iter(batches), iter(batches)
    next(second)
    found["two loops"] = error_of(lambda: next(first))
    cp.load_state_dict(cp.state_dict())
    found["moved"] = error_of(lambda: next(second))
    return found


def documents_read(use_several: bool) -> dict[str, Any]:
    """Which documents a rank reads in an epoch, and which its groups need."""
    planner = MixedPlanner()
    needed: list[int] = []
    items = documents()
    dataset = SeveralDocuments(items) if use_several else Documents(items)
    lengths = [len(item["input_ids"]) for item in items]
    cp = context_parallel(planner)
    batches = cp.batches(dataset, tokens=120, epochs=1, lengths=lengths)
    num_read_to_count = len(dataset.read)
    for step in batches:
        works = [work for work in step.plan.for_rank(dist.get_rank()) if work is not None]
        needed.append(sum(len(work.group.sequences) for work in works))
    return {
        "to count": num_read_to_count,
        "read": len(dataset.read),
        "needed": sum(needed),
        "all": batches.census.num_sequences,
        "several": getattr(dataset, "num_calls", 0),
        "busy steps": sum(num > 0 for num in needed),
    }


class SeveralDocuments(Documents):
    """A data set that gives several items by one call."""

    num_calls = 0

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.num_calls += 1
        return [self[index] for index in indices]


def gradient_faults(name: str, kind: str) -> list[str]:
    """What is wrong with the gradients of the steps of an epoch."""
    items = documents(14, longest=60)
    model = sharded(whole_model(name))
    cp = ContextParallel(MixedPlanner(), model, mesh())
    faults: list[str] = []
    for step in cp.batches(dataset_of(kind, items), tokens=150, epochs=1):
        total = torch.zeros(())
        for micro_batch in step:
            loss = cp.loss(model, micro_batch)
            loss.backward()
            total += loss.detach()
        dist.all_reduce(total)
        found = {name: each.grad.full_tensor() for name, each in model.named_parameters()}
        model.zero_grad(set_to_none=True)
        # Targets are shifted, and what the last token of a piece predicts is in the next piece.
        sequences = [
            {
                "input_ids": [*(token for token, _ in sequence), 0],
                "labels": [-100, *(target for _, target in sequence)],
            }
            for sequence in whole_sequences(step)
        ]
        expected = of_one_process(whole_model(name), sequences)
        faults += faults_of(expected, (float(total), found, 0), f"epoch {step.epoch}")
    return faults


def refused() -> dict[str, str]:
    """What is said of data that can't be used; each rank runs one after the other."""
    rank = dist.get_rank()
    items = documents(12)
    cp = context_parallel()

    def steps_of(dataset: Any, **options: Any) -> str:
        def run() -> None:
            for _ in cp.batches(dataset, **{"tokens": 100, "epochs": 1, **options}):
                pass

        try:
            return error_of(run)
        except OSError as error:
            return f"OSError: {error}"

    class Failing(Documents):
        def __getitem__(self, index: int) -> Any:
            if rank == 1:
                raise OSError("the disk is gone")
            return super().__getitem__(index)

    class FailingStream(Stream):
        def __iter__(self) -> Iterator[Any]:
            for index, item in enumerate(super().__iter__()):
                if rank == 1 and index == 8:
                    raise OSError("the disk is gone")
                yield item

    lengths = [len(item["input_ids"]) for item in items]
    other_ids = [
        {**item, "input_ids": [(i + rank) % 61 for i in item["input_ids"]]} for item in items
    ]
    longer = [*items[:5], items[5] if rank != 1 else items[6] | {}, *items[6:]]
    padded = [
        {**item, "attention_mask": [1] * (n - 1) + [0]}
        for item, n in zip(items, lengths, strict=True)
    ]
    unlabelled = [{**item, "labels": [-100] * n} for item, n in zip(items, lengths, strict=True)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        said_of_unlabelled = steps_of(unlabelled)
    return {
        "fewer": steps_of(items[: 12 - (rank == 1)]),
        "fewer in a stream": steps_of(Stream(items[: 12 - 6 * (rank == 1)]), tokens=30),
        "other lengths": steps_of(longer, lengths=[len(each["input_ids"]) for each in longer]),
        "other lengths in a stream": steps_of(Stream(longer)),
        "other ids": steps_of(other_ids),
        "other ids in a stream": steps_of(Stream(other_ids)),
        "other kind": steps_of(Stream(items) if rank == 1 else items),
        "other arguments": steps_of(items, tokens=100 + rank),
        "other steps": steps_of(items, steps=5 + rank),
        "other depth": steps_of(Stream(items), depth=2 + rank),
        "failing": steps_of(Failing(items), lengths=lengths),
        "failing to count": steps_of(Failing(items)),
        "failing stream": steps_of(FailingStream(items), tokens=30),
        "wrong lengths": steps_of(items, lengths=[n + 1 for n in lengths]),
        "few lengths": steps_of(items, lengths=lengths[1:]),
        "no column": steps_of(items, lengths="tokens"),
        "no lengths": steps_of(items, lengths=[0.5] * len(items)),
        "lengths of a stream": steps_of(Stream(items), lengths=lengths),
        "splits": steps_of({"train": items}),
        "no data": steps_of(3),
        "padded": steps_of(padded),
        "unknown id": steps_of([[1, 2, 61]]),
        "nothing": steps_of([]),
        "nothing in a stream": steps_of(Stream([])),
        "too short": steps_of(Stream(items), min_tokens=40, context=40, overlong="skip"),
        "context": steps_of(items, context=41),
        "no size": steps_of(items, tokens=None),
        "both sizes": steps_of(items, sequences=3),
        "steps": steps_of(items, steps=-1),
        "depth": steps_of(items, depth=0),
        "epochs": steps_of(Stream(items), epochs=0),
        "unlabelled": said_of_unlabelled,
        "warnings of unlabelled": "; ".join(str(each.message) for each in warned),
        "works after all": steps_of(items),
    }


def beyond_memory() -> dict[str, str]:
    """What is said of a sequence that no group has memory for."""
    planner = lw.Planner(
        model="llama-3.1-8b", cluster="h100-8x1", context="1M", devices=dist.get_world_size()
    )
    cp = context_parallel(planner)
    items = [[1] * 10, [1, 2] * 400_000, [1] * 7]
    limit = max(planner.token_budget(degree).tokens_per_group for degree in planner.degrees)

    def steps_of(dataset: Any, **options: Any) -> str:
        return error_of(lambda: next(iter(cp.batches(dataset, tokens="2M", **options))))

    return {
        "documents": steps_of(items),
        "stream": steps_of(Stream(items)),
        "split": steps_of(items, context=limit),
        "one too long": steps_of(items, context=limit + 1),
        "limit": str(limit),
    }


def with_empty_documents() -> dict[str, Any]:
    """The sequences of data of which some documents are empty."""
    cp = context_parallel()
    items = [[1, 2, 3], [], [4, 5], {"input_ids": [], "labels": []}]
    found = {}
    for dataset in (items, Stream(items)):
        batches = cp.batches(dataset, sequences=9, epochs=1, seed=None)
        sequences = [whole_sequences(step) for step in batches]
        found[type(dataset).__name__] = (sequences, batches.census.num_empty)
    return found


def small_batches() -> list[tuple[int, int]]:
    """Sequences of steps of one, and micro-batches in which this rank has work."""
    cp = context_parallel()
    batches = cp.batches(documents(6), sequences=1, epochs=1)
    return [(len(step.plan.seq_lens), sum(not each.is_idle for each in step)) for step in batches]


def waits(delay_s: float, num_steps: int) -> list[tuple[float, float]]:
    """How long each step of so many waits for plan and tokens, which take this long."""

    class SlowPlanner(MixedPlanner):
        def plan(self, lengths: list[int], /) -> Any:
            time.sleep(delay_s)
            return super().plan(lengths)

    class SlowDocuments(Documents):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            time.sleep(delay_s)
            return [self.items[index] for index in indices]

    cp = context_parallel(SlowPlanner())
    items = documents()
    lengths = [len(item["input_ids"]) for item in items]
    found: list[tuple[float, float]] = []
    for step in cp.batches(SlowDocuments(items), tokens=60, steps=num_steps, lengths=lengths):
        found.append((step.plan_wait_s, step.data_wait_s))
        time.sleep(3 * delay_s)
    return found


def planners_of_steps(num_steps: int, depth: int) -> list[int]:
    """Which planner each step was planned by, where it is replaced after every step."""
    planners: list[int] = []
    cp = context_parallel()

    class Numbered(MixedPlanner):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def plan(self, lengths: list[int], /) -> Any:
            # Slow, so that planners are replaced while plans wait for their turn.
            time.sleep(0.05)
            planners.append(self.number)
            return super().plan(lengths)

    cp._planner = Numbered(0)
    for index, _ in enumerate(cp.batches(documents(), tokens=60, steps=num_steps, depth=depth)):
        cp._planner = Numbered(index + 1)
    return planners[:num_steps]


def evaluated(name: str, kind: str, **options: Any) -> dict[str, Any]:
    """The loss over a data set, and by transformers alone."""
    items = documents(14, longest=60)
    model = sharded(whole_model(name))
    cp = ContextParallel(MixedPlanner(), model, mesh())
    training = cp.batches(items, tokens=100)
    next(iter(training))
    before = cp.state_dict()
    parts = model.model.layers
    parts[0].eval()
    loss = cp.evaluate(model, dataset_of(kind, items), **{"context": 40, **options})
    modes = [parts[0].training, parts[1].training, model.training]
    parts[0].train()
    reference = whole_model(name).eval()
    reference.set_attn_implementation("eager")
    total, num_labels = 0.0, 0
    with torch.no_grad():
        for item in items:
            ids = torch.tensor(item["input_ids"])
            labels = torch.tensor([*item["labels"][1:], -100])
            for piece, targets in zip(ids.split(40), labels.split(40), strict=True):
                logits = reference(input_ids=piece[None], use_cache=False).logits[0].double()
                total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
                num_labels += int((targets != -100).sum())
    return {
        "loss": loss,
        "expected": total / num_labels,
        "modes": modes,
        "gradients": sum(each.grad is not None for each in model.parameters()),
        "is undisturbed": cp.state_dict() == before,
    }


def trained_after_evaluation() -> list[float]:
    """How far parameters of training with and without an evaluation in between are apart."""
    found: list[list[torch.Tensor]] = []
    for is_evaluated in (False, True):
        model = sharded(whole_model("llama"))
        cp = ContextParallel(MixedPlanner(), model, mesh())
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in cp.batches(documents(), tokens=100, steps=3):
            for micro_batch in step:
                cp.loss(model, micro_batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            if is_evaluated:
                cp.evaluate(model, documents(5))
        found.append([each.full_tensor().detach() for each in model.parameters()])
    return [float((one - other).abs().max()) for one, other in zip(*found, strict=True)]


def saved(path: str, num_steps: int) -> list[Any]:
    """The steps of a run, after the second of which its position is saved as a checkpoint."""
    cp = context_parallel()
    found: list[Any] = []
    for step in cp.batches(documents(), tokens=120, steps=num_steps):
        found.append(whole_sequences(step))
        if len(found) == 2:
            checkpoint.save({"data": cp}, checkpoint_id=path)
    return found


def loaded(path: str, num_steps: int, is_loaded_first: bool) -> list[Any]:
    """The steps that follow in a run that loads the checkpoint."""
    cp = context_parallel()
    if is_loaded_first:
        checkpoint.load({"data": cp}, checkpoint_id=path)
    batches = cp.batches(documents(), tokens=120, steps=num_steps)
    if not is_loaded_first:
        checkpoint.load({"data": cp}, checkpoint_id=path)
    return [whole_sequences(step) for step in batches]


def refused_positions() -> dict[str, str]:
    """What is said of positions of other data."""
    cp = context_parallel()
    items = documents()
    cp.batches(items, tokens=120)
    state = cp.state_dict()
    stream = context_parallel()
    batches = stream.batches(Stream(items), tokens=120)
    for step in batches:
        if batches.num_steps == 3:
            break
        del step
    of_stream = stream.state_dict()

    def loaded_in(dataset: Any, position: Any = state, **options: Any) -> str:
        def run() -> None:
            cp = context_parallel()
            batches = cp.batches(dataset, **{"tokens": 120, **options})
            cp.load_state_dict(position)
            next(iter(batches))

        return error_of(run)

    changed = [*items[:4], {"input_ids": [1] * len(items[4]["input_ids"])}, *items[5:]]
    version = json.dumps(json.loads(state["data"]) | {"version": 9})
    return {
        "seed": loaded_in(items, seed=1),
        "context": loaded_in(items, context=39),
        "overlong": loaded_in(items, overlong="skip"),
        "documents": loaded_in(items[1:]),
        "lengths": loaded_in([*items[1:], items[0]]),
        "kind": loaded_in(Stream(items)),
        "version": loaded_in(items, {"data": version}),
        "another batch size": loaded_in(items, tokens=50),
        "other documents": loaded_in(Stream(changed), of_stream),
        "fewer documents": loaded_in(Stream(items[:2]), of_stream),
    }


def broken_positions() -> dict[str, str]:
    """What is said of what is no position."""
    found: dict[str, str] = {}
    for kind in ("list", "stream"):
        items = dataset_of(kind, documents())
        cp = context_parallel()
        batches = cp.batches(items, tokens=120)
        next(iter(batches))
        state = batches.state_dict()
        place = dict(state["position"])

        def changed(
            place: Any = place,
            cp: ContextParallel = cp,
            state: dict[str, Any] = state,
            **fields: Any,
        ) -> str:
            text = json.dumps({**state, "position": place, **fields})
            return error_of(lambda: cp.load_state_dict({"data": text}))

        found |= {
            f"{kind}: number of steps": changed(num_steps=-1),
            f"{kind}: no number": changed(num_steps="some"),
            f"{kind}: rules": changed(rules=[1]),
            f"{kind}: no place": changed(3),
            f"{kind}: missing": changed({}),
            f"{kind}: before the first": changed({**place, "epoch": 0}),
            f"{kind}: beyond all": changed({**place, "epoch": 1 << 70}),
            f"{kind}: works after all": changed(),
        }
    found["no text"] = changed({**place, "state": 3})
    nothing: Any = None
    cp = context_parallel()
    found["nothing"] = error_of(lambda: cp.load_state_dict(nothing))
    found["other"] = error_of(lambda: cp.load_state_dict({"model": "text"}))
    found["no JSON"] = error_of(lambda: cp.load_state_dict({"data": "{"}))
    found["nothing to batches"] = error_of(lambda: batches.load_state_dict(nothing))
    return found


def lengths_found() -> dict[str, Any]:
    """The lengths of documents, however a data set has them, and how many were read."""
    import datasets

    ids = [[1] * n for n in (3, 0, 9, 4, 1)]
    plain = datasets.Dataset.from_dict({"input_ids": ids})
    chosen = plain.select([4, 2, 0])
    doubled = plain.with_transform(
        lambda rows: {"input_ids": [each * 2 for each in rows["input_ids"]]}
    )
    text = datasets.Dataset.from_dict({"text": ["a b", "c"]})
    tokenized = text.with_transform(
        lambda rows: {"input_ids": [list(range(len(each))) for each in rows["text"]]}
    )
    column = datasets.Dataset.from_dict({"input_ids": ids, "num_tokens": [5, 6, 7, 8, 9]})
    missing = datasets.Dataset.from_dict({"input_ids": [[1], None]})
    read = Documents(ids)
    found: dict[str, Any] = {
        "plain": document_lengths(plain, None).tolist(),
        "torch": document_lengths(plain.with_format("torch"), None).tolist(),
        "chosen": document_lengths(chosen, None).tolist(),
        "doubled": document_lengths(doubled, None).tolist(),
        "tokenized": document_lengths(tokenized, None).tolist(),
        "column": document_lengths(column, None).tolist(),
        "column of numbers": document_lengths(column.with_format("numpy"), None).tolist(),
        "named": document_lengths(column.rename_column("num_tokens", "n"), "n").tolist(),
        "given": document_lengths(plain, torch.tensor([1, 2, 3, 4, 5])).tolist(),
        "read": document_lengths(read, None).tolist(),
        "missing": error_of(lambda: document_lengths(missing, None)),
        "no column": error_of(lambda: document_lengths(column, "n")),
        "no ids": error_of(lambda: document_lengths(text, None)),
    }
    found["share"] = read.read
    return found
