"""Steps that are drawn from data sets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import data
from worlds import World

STREAMS = ["stream", "stateful stream", "refilled stream"]
HUGGING_FACE = ["hugging face", "hugging face stream", "shuffled stream"]


def expected_tokens(count: int = 30) -> Counter[tuple[int, int]]:
    """Each id with what it has to predict."""
    tokens: Counter[tuple[int, int]] = Counter()
    for item in data.documents(count):
        tokens.update(zip(item["input_ids"], [*item["labels"][1:], -100], strict=True))
    return tokens


@pytest.mark.parametrize("kind", ["list", "documents", *STREAMS, *HUGGING_FACE])
def test_an_epoch_has_every_token_once(world: Callable[[int], World], kind: str) -> None:
    pytest.importorskip("datasets") if kind in HUGGING_FACE else None
    first, *others = world(3).run(data.of_an_epoch, kind)
    assert all(other == first for other in others)
    assert Counter(chain(*chain(*first["steps"]))) == expected_tokens()
    assert max(len(sequence) for step in first["steps"] for sequence in step) == 40
    for num_labels, step in zip(first["num_labels"], first["steps"], strict=True):
        assert sum(map(len, step)) <= 120
        assert num_labels == sum(target != -100 for _, target in chain(*step))
    is_known = kind in ("list", "documents", "hugging face")
    num_steps = len(first["steps"])
    assert first["length"] == ((num_steps, num_steps) if is_known else (None, None))
    assert first["census"] == (30, sum(expected_tokens().values()))
    assert first["again"] == 0


def test_batches_do_not_depend_on_the_number_of_ranks(world: Callable[[int], World]) -> None:
    for kind in ("list", "stream"):
        found = [world(num_ranks).run(data.of_an_epoch, kind)[0] for num_ranks in (2, 3, 4)]
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", ["list", *STREAMS, *HUGGING_FACE])
def test_a_run_goes_on_where_it_was_on_another_number_of_ranks(
    world: Callable[[int], World], kind: str
) -> None:
    pytest.importorskip("datasets") if kind in HUGGING_FACE else None
    # Into the third epoch.
    whole, _, _ = world(2).run(data.first_steps, kind, 14)[0]
    for count, num_ranks in [(1, 3), (4, 4), (9, 3)]:
        before, state, _ = world(2).run(data.first_steps, kind, count)[0]
        assert before == whole[:count]
        for is_loaded_first in (False, True):
            after, _, _ = world(num_ranks).run(
                data.first_steps, kind, 14 - count, state, is_loaded_first
            )[0]
            assert after == whole[count:]
    # Once more, from a run that was resumed itself.
    _, state, _ = world(3).run(data.first_steps, kind, 2, state)[0]
    assert world(2).run(data.first_steps, kind, 3, state)[0][0] == whole[11:]


def test_a_data_set_with_a_state_is_not_read_again(world: Callable[[int], World]) -> None:
    num_read = {}
    for kind in ("stream", "stateful stream"):
        _, state, _ = world(2).run(data.first_steps, kind, 4)[0]
        num_read[kind] = world(2).run(data.first_steps, kind, 1, state)[0][2]
    assert num_read["stateful stream"] < num_read["stream"]


def test_loops_go_on_after_each_other(world: Callable[[int], World]) -> None:
    for found in world(2).run(data.go_on_after_a_break):
        assert found["several"] == found["one"]
        assert found["length"] == (7, 7)
        assert "these steps are over" in found["two loops"]
        assert "these steps are over" in found["moved"]


@pytest.mark.parametrize("use_several", [False, True])
def test_a_rank_reads_what_its_groups_need(
    world: Callable[[int], World], use_several: bool
) -> None:
    found = world(4).run(data.documents_read, use_several)
    for of_rank in found:
        assert of_rank["to count"] == 0
        # A document with several pieces in a step is read once.
        assert of_rank["read"] <= of_rank["needed"] < of_rank["all"]
        assert of_rank["several"] == (of_rank["busy steps"] if use_several else 0)
    assert sum(of_rank["needed"] for of_rank in found) >= found[0]["all"]


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
@pytest.mark.parametrize("kind", ["list", "stream"])
def test_steps_of_data_have_the_gradient_of_one_process(
    world: Callable[[int], World], num_ranks: int, kind: str
) -> None:
    assert world(num_ranks).run(data.gradient_faults, "llama", kind) == [[]] * num_ranks


def test_data_that_cannot_be_used_is_refused_on_every_rank(world: Callable[[int], World]) -> None:
    found = world(3).run(data.refused)
    for rank, said in enumerate(found):
        assert "rank 1's data set has 11 documents and rank 0's 12" in said["fewer"]
        assert "the data set of rank 1 has ended before step" in said["fewer in a stream"]
        assert "document 5 has" in said["other lengths"]
        assert "tokens on rank 1 and" in said["other lengths"]
        expected = r"ranks 0 and 1 differ: step \d has document 5.* with \d+ tokens on rank 1 where"
        assert re.search(expected, said["other lengths in a stream"])
        for kind in ("other ids", "other ids in a stream"):
            assert "have different tokens or labels in step 1" in said[kind]
        assert "of different kinds" in said["other kind"]
        assert "tokens is 101 on rank 1 and 100 on rank 0" in said["other arguments"]
        assert "steps is 6 on rank 1 and 5 on rank 0" in said["other steps"]
        assert "depth is 3 on rank 1 and 2 on rank 0" in said["other depth"]
        for kind in ("failing", "failing to count", "failing stream"):
            assert "the disk is gone" in said[kind]
            assert said[kind].startswith("OSError") == (rank == 1)
            assert ("rank 1 failed: OSError" in said[kind]) == (rank != 1)
        assert "and its length is given as" in said["wrong lengths"]
        assert "12 documents, and 11 lengths are given" in said["few lengths"]
        assert "there are no columns" in said["no column"]
        assert "lengths has 0.5 at index 0" in said["no lengths"]
        assert "can only be iterated" in said["lengths of a stream"]
        assert "a mapping of train" in said["splits"]
        assert "the data set is int" in said["no data"]
        assert "has padding" in said["padded"]
        assert "document 0 has the id 61; the model has 61 ids" in said["unknown id"]
        assert "no sequence (documents: 0" in said["nothing"]
        assert "no sequence (documents: 0" in said["nothing in a stream"]
        assert "context is 41 tokens, and that of the planner 40" in said["context"]
        assert "neither is given" in said["no size"]
        assert "both is given" in said["both sizes"]
        assert "steps is -1" in said["steps"]
        assert "depth is 0" in said["depth"]
        assert "epochs is 0" in said["epochs"]
        # Steps without a label teach nothing, but are no error.
        assert said["unlabelled"] == "no error"
        assert "step 1 has no label, so its loss" in said["warnings of unlabelled"]
        assert said["works after all"] == "no error"


def test_a_sequence_beyond_all_memory_is_named(world: Callable[[int], World]) -> None:
    for said in world(2).run(data.beyond_memory):
        limit = said["limit"]
        assert "document 1 is a sequence of 800000 tokens" in said["documents"]
        assert f"the longest that any group has memory for has {limit}" in said["documents"]
        assert said["documents"].startswith("InfeasibleError")
        assert "document 1: " in said["stream"]
        assert said["stream"].startswith("InfeasibleError")
        assert said["split"] == "no error"
        assert "document 1 (its tokens 0 to" in said["one too long"]


def test_empty_documents_are_left_out(world: Callable[[int], World]) -> None:
    expected = [[[(1, 2), (2, 3), (3, -100)], [(4, 5), (5, -100)]]]
    for found in world(2).run(data.with_empty_documents):
        assert found == {"list": (expected, 2), "Stream": (expected, 2)}


def test_a_batch_may_be_smaller_than_the_world(world: Callable[[int], World]) -> None:
    found = world(4).run(data.small_batches)
    assert all(num == 1 for of_rank in found for num, _ in of_rank)
    assert {busy for of_rank in found for _, busy in of_rank} == {0, 1}


def test_nothing_is_waited_for_after_the_first_step(world: Callable[[int], World]) -> None:
    for waits in world(2).run(data.waits, 0.1, 8):
        # Generously, for other processes run on the same cores.
        assert max(chain(*waits[1:])) < 0.05
        # The first is planned from the moment that steps are asked for; some of that has passed.
        assert min(waits[0]) > 0.02


def test_ranks_plan_a_step_with_the_planner_of_the_same_moment(
    world: Callable[[int], World],
) -> None:
    # Three steps before the first is handed out, then one more as each is.
    for planners in world(3).run(data.planners_of_steps, 8, 3):
        assert planners == [0, 0, 0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["list", "stream"])
def test_an_evaluation_has_the_loss_of_one_process(
    world: Callable[[int], World], kind: str
) -> None:
    losses = []
    for num_ranks in (2, 3):
        for options in ({}, {"tokens": 70}, {"sequences": 3}):
            found: list[Any] = world(num_ranks).run(data.evaluated, "llama", kind, **options)
            assert all(of_rank == found[0] for of_rank in found)
            assert found[0]["loss"] == pytest.approx(found[0]["expected"], rel=1e-5)
            assert found[0]["modes"] == [False, True, True]
            assert found[0]["gradients"] == 0
            assert found[0]["is undisturbed"]
            losses.append(found[0]["loss"])
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-6)


def test_an_evaluation_leaves_training_as_it_is(world: Callable[[int], World]) -> None:
    for distances in world(2).run(data.trained_after_evaluation):
        assert max(distances) == 0.0


@pytest.mark.parametrize("is_loaded_first", [False, True])
def test_a_distributed_checkpoint_has_the_position(
    world: Callable[[int], World], tmp_path: Path, is_loaded_first: bool
) -> None:
    path = str(tmp_path / "checkpoint")
    whole = world(2).run(data.saved, path, 5)[0]
    assert world(3).run(data.loaded, path, 5, is_loaded_first)[0] == whole[2:]


def test_positions_of_other_data_are_refused(world: Callable[[int], World]) -> None:
    for said in world(2).run(data.refused_positions):
        assert "seed is 1, and 0 in the position" in said["seed"]
        assert "context is 39, and 40 in the position" in said["context"]
        assert "overlong is 'skip', and 'split' in the position" in said["overlong"]
        assert "num_documents is 29, and 30 in the position" in said["documents"]
        assert "the lengths of the documents are not those" in said["lengths"]
        assert "another kind" in said["kind"]
        assert "version 9" in said["version"]
        assert said["another batch size"] == "no error"
        assert "other documents before document" in said["other documents"]
        assert "other documents before document" in said["fewer documents"]


def test_what_is_no_position_is_refused_by_name(world: Callable[[int], World]) -> None:
    for said in world(2).run(data.broken_positions):
        for kind in ("list", "stream"):
            assert "num_steps of the position is -1" in said[f"{kind}: number of steps"]
            assert "num_steps of the position is 'some'" in said[f"{kind}: no number"]
            assert "the position's rules are list; " in said[f"{kind}: rules"]
            assert "the place in the data is int; " in said[f"{kind}: no place"]
            assert "the place in the data has no epoch" in said[f"{kind}: missing"]
            assert "epoch of the place in the data is 0" in said[f"{kind}: before the first"]
            assert f"is {1 << 70}; that is no place" in said[f"{kind}: beyond all"]
            assert said[f"{kind}: works after all"] == "no error"
        assert "state of the place in the data is 3, not text" in said["no text"]
        for kind in ("nothing", "other"):
            assert "InputTypeError: the state has no text called data" in said[kind]
        assert "the position in the data is not JSON" in said["no JSON"]
        assert "InputTypeError: the position is NoneType" in said["nothing to batches"]


def test_lengths_are_found_however_a_data_set_has_them(world: Callable[[int], World]) -> None:
    pytest.importorskip("datasets")
    found = world(2).run(data.lengths_found)
    for of_rank in found:
        for name in ("plain", "torch", "read"):
            assert of_rank[name] == [3, 0, 9, 4, 1]
        assert of_rank["chosen"] == [1, 9, 3]
        assert of_rank["doubled"] == [6, 0, 18, 8, 2]
        assert of_rank["tokenized"] == [3, 1]
        for name in ("column", "column of numbers", "named"):
            assert of_rank[name] == [5, 6, 7, 8, 9]
        assert of_rank["given"] == [1, 2, 3, 4, 5]
        assert "document 1 has no input_ids" in of_rank["missing"]
        assert "the data set has the columns input_ids, num_tokens" in of_rank["no column"]
        assert "has no input_ids; it has text" in of_rank["no ids"]
    # Each a share.
    assert [of_rank["share"] for of_rank in found] == [[0, 1], [2, 3, 4]]
