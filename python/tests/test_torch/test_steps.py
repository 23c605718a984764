"""What ranks run of a step, and what is refused before work starts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import steps
from worlds import World


def test_ranks_run_their_share_of_a_pack(world: Callable[[int], World]) -> None:
    # Sequences are 0 1 2 3, 10 11 12 and 20; six of their eight tokens have a label.
    plan = [[([0, 1], [0, 1])], [([1], [2])]]
    first, second = world(2).run(steps.micro_batches, [4, 3, 1], plan)
    assert first[0] == {
        "input_ids": [[0, 1, 2]],
        "position_ids": [[0, 1, 2]],
        "targets": [1, 2, 3],
        "num_step_labels": 5,
        "num_tokens": 3,
        "is_idle": False,
    }
    assert second[0]["input_ids"] == [[3, 10, 11, 12]]
    assert second[0]["position_ids"] == [[3, 0, 1, 2]]
    assert second[0]["targets"] == [-100, 11, 12, -100]
    assert (first[1]["is_idle"], first[1]["num_tokens"]) == (True, 0)
    assert first[1]["targets"] == [-100]
    assert second[1]["input_ids"] == [[20]]
    assert second[1]["targets"] == [-100]


def test_steps_that_cannot_be_run_are_refused_on_every_rank(
    world: Callable[[int], World],
) -> None:
    found = world(3).run(steps.refused_steps)
    for rank, said in enumerate(found):
        assert "of rank 1, 2 differ from those of rank 0" in said["different"]
        assert "the disk is gone" in said["failing"]
        assert said["failing"].startswith("rank 1 failed") == (rank != 1)
        assert "the step has no sequence" in said["none"]
        assert "sequence 0 has no token" in said["empty"]
        assert "has a label" in said["unlabelled"]
        assert "sequence 0 has 3 tokens and 1 labels" in said["short labels"]
        assert "input_ids of sequence 0 are not ids of tokens" in said["floats"]
        assert "sequence 0 has the id 61; the model has 61 ids" in said["unknown id"]
        assert "other lengths" in said["other lengths"]
        assert "has rank 3; the mesh has 3 ranks" in said["many ranks"]
        assert "logits have the shape (1, 2, 61); the rank has 1 tokens" in said["logits"] or (
            "logits have the shape (1, 4, 61); the rank has 3 tokens" in said["logits"]
        )
        assert said["works after all"] == "no error"


def test_other_things_than_are_asked_for_are_refused_by_name(
    world: Callable[[int], World],
) -> None:
    for said in world(2).run(steps.misused):
        other = (
            "InputError: this LlamaForCausalLM is another model than ContextParallel was made for"
        )
        assert said["other model"] == other
        assert said["evaluated other"] == other
        assert said["wrapped"] == "no error"
        assert said["no model"] == "InputTypeError: the model is NoneType, not a Module"
        assert said["step"] == "InputTypeError: the micro-batch is Step, not a MicroBatch"
        assert said["inputs"] == "InputTypeError: the micro-batch is NoneType, not a MicroBatch"
        assert said["planner"] == "InputTypeError: the planner is NoneType, which has no plans"
        assert said["model"] == "InputTypeError: the model is NoneType, not a Module"
        assert said["mesh"] == "InputTypeError: the mesh is NoneType, not a DeviceMesh"
        assert said["closed"] == "InputError: this ContextParallel is closed"
        assert said["step of closed"] == "InputError: this ContextParallel is closed"


def test_models_that_would_be_trained_wrongly_are_refused_by_name(
    world: Callable[[int], World],
) -> None:
    for said in world(2).run(steps.refused_models):
        assert "is not sharded" in said["not sharded"]
        assert "attention_dropout is 0.1" in said["dropout"]
        assert "RoPE of the type dynamic" in said["dynamic"]
        assert "attn_logit_softcapping" in said["soft cap"]
        assert "final_logit_softcapping" in said["soft cap"]
        assert "logits_scaling 2.0" in said["scaled logits"]
        assert "DistributedDataParallel" in said["DDP"]
        assert "compiled by torch.compile" in said["compiled"]
        assert "compiled by torch.compile" in said["compiled in place"]
        assert "no PreTrainedModel" in said["no model"]
        assert "Conv1d mixes tokens outside attention" in said["convolution"]
        assert "attention sinks" in said["sinks"]
        assert "the planner has 3 ranks and the mesh 2" in said["ranks"]
        assert "outside of ContextParallel.loss" in said["outside"]


def test_the_ten_lines_train_the_same_on_any_number_of_ranks(
    world: Callable[[int], World],
) -> None:
    runs = {num: world(num).run(steps.trained) for num in (2, 4)}
    for of_ranks in runs.values():
        assert all(losses == of_ranks[0] for losses in of_ranks)
        assert of_ranks[0][-1] < 0.8 * of_ranks[0][0]
    assert runs[4][0] == pytest.approx(runs[2][0], rel=1e-4)
