"""Trainers of transformers and TRL come to what the loop of one rank comes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("datasets")

import tiny
import trainers
from worlds import World


def test_a_trainer_has_the_losses_of_one_rank(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    for found in world(2).run(trainers.trained, tmp_path):
        assert len(found["losses"]) > 6
        assert found["losses"] == pytest.approx(found["expected"], rel=1e-4)
        assert found["eval"] == pytest.approx(found["expected_eval"], rel=1e-4)
        assert found["losses"][1] > 1.05 * found["eval"]
        assert found["epoch"] == 2.0
        assert all(0.0 < norm < 100.0 for norm in found["norms"])
        assert [each["loss"] for each in found["metrics"]] == pytest.approx(
            list(found["losses"].values()), rel=1e-4
        )
        assert [each["gradient_norm"] for each in found["metrics"]] == pytest.approx(
            found["norms"], rel=1e-4
        )
        assert found["work"] == pytest.approx(2 * sum(trainers.SEQ_LENS))


def test_a_trainer_goes_on_from_its_checkpoint(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    uninterrupted = world(2).run(trainers.saved, tmp_path)[0]
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-4")).__name__ == (
        "LlamaForCausalLM"
    )
    for num_ranks in (2, 3):
        resumed = world(num_ranks).run(trainers.resumed, tmp_path)[0]
        before = {step: uninterrupted[step] for step in range(1, 5)}
        # The log of the first run is in its checkpoint.
        assert resumed == pytest.approx(uninterrupted, rel=1e-4)
        assert len(resumed) > len(before)


def test_an_sft_trainer_has_the_losses_of_one_rank(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    directory = tiny.save_model(tmp_path / "model")
    for found in world(2).run(trainers.fine_tuned, tmp_path, directory):
        assert len(found["losses"]) > 6
        assert found["losses"] == pytest.approx(found["expected"], rel=1e-4)
        # The completion, and the token that ends it.
        assert all(len(labels) == 3 for labels in found["learnt"])


def test_what_plans_cannot_do_is_refused_by_name(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    for said in world(2).run(trainers.refused, tmp_path):
        assert "gradient_accumulation_steps is 2" in said["accumulation"]
        assert "train_sampling_strategy is 'group_by_length'" in said["sampling"]
        assert "num_train_epochs is 0.5" in said["half an epoch"]
        assert "label_smoothing_factor is 0.1" in said["smoothing"]
        assert "packing is True" in said["packing"]
        assert "compute_loss_func is" in said["loss"]
        assert "data_collator is '<lambda>'" in said["collator"]
        assert "train_dataset is packed" in said["packed"]
        assert "completion_mask, and none of labels" in said["masks"]
        assert "max_steps is missing" in said["endless"]
        assert "logits of whole sequences" in said["predict"]
        assert "has no checkpoint to go on from" in said["nothing saved"]


def test_a_loop_with_accelerate_has_the_losses_of_one_rank(world: Callable[[int], World]) -> None:
    for found in world(2).run(trainers.accelerated):
        assert found["losses"] == pytest.approx(found["plain"], rel=1e-4)


def test_a_model_that_accelerate_has_sharded_has_the_losses_of_one_rank(
    world: Callable[[int], World],
) -> None:
    for found in world(2).run(trainers.sharded_by_accelerate):
        assert found["losses"] == pytest.approx(found["plain"], rel=1e-4)
