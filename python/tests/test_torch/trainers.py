"""Trainers of transformers and TRL under plans, and the loop of one rank; all runs in a world."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from gradients import sequences_of
from models import mesh, sharded, whole_model
from steps import error_of
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.utils import logging

import lengthwise as lw
from lengthwise._lengthwise import BatchSchedule
from lengthwise.torch import ContextParallel
from lengthwise.torch._reference import accumulate_gradients
from lengthwise.torch.trainer import TrainerMixin

COSTS = Path(__file__).parent / "tiny_costs.toml"

SEQ_LENS = [40, 3, 90, 8, 2, 25, 60, 5, 5, 31, 12, 118, 7, 19, 44, 9]

RULES: dict[str, Any] = {"context": 100, "tokens": 150}

LEARNING: dict[str, Any] = {
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "max_grad_norm": 0.5,
    "weight_decay": 0.01,
}


class PlannedTrainer(TrainerMixin, Trainer):
    """A Trainer as users write it."""


def begin() -> None:
    """Let accelerate find what torchrun would have set."""
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
    logging.set_verbosity_error()


def planner() -> lw.Planner:
    """For all ranks."""
    return lw.Planner(profile=COSTS, devices=dist.get_world_size(), context=128)


def documents() -> Dataset:
    """Documents with labels, of which some are missing."""
    rows = [{**each, "title": "unread"} for each in sequences_of(SEQ_LENS, seed=5)]
    return Dataset.from_list(rows)


def arguments(directory: Path, **options: Any) -> TrainingArguments:
    """Arguments that log all."""
    given: dict[str, Any] = {
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": True,
        **LEARNING,
        **options,
    }
    return TrainingArguments(str(directory), **given)


def trainer_of(directory: Path, metrics: Path | None = None, **options: Any) -> PlannedTrainer:
    """A trainer of a tiny model."""
    begin()
    return PlannedTrainer(
        model=whole_model("llama"),
        args=arguments(directory, **options),
        train_dataset=documents(),
        eval_dataset=documents(),
        planner=planner(),
        metrics=metrics,
        **RULES,
    )


def losses_of(trainer: Any) -> dict[int, float]:
    """What was logged of each step."""
    return {each["step"]: each["loss"] for each in trainer.state.log_history if "loss" in each}


def of_one_rank(rows: list[Any], seed: int, epochs: int) -> tuple[dict[int, float], float]:
    """Losses of the loop that everybody writes, and the loss of all documents after it."""
    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]
    lengths = [len(row["input_ids"]) for row in rows]
    batches = list(BatchSchedule(lengths, **RULES, overlong="split", seed=seed, epochs=epochs))
    model = whole_model("llama")
    # Transformers leaves norms and biases alone.
    decayed = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": LEARNING["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=LEARNING["learning_rate"],
    )
    schedule = get_scheduler("linear", optimizer, LEARNING["warmup_steps"], len(batches))
    losses: dict[int, float] = {}
    for step, batch in enumerate(batches, 1):
        pieces = [_piece(rows[document], start, stop) for document, start, stop in batch.excerpts]
        losses[step] = accumulate_gradients(model, pieces, torch.device("cpu"))
        torch.nn.utils.clip_grad_norm_(model.parameters(), LEARNING["max_grad_norm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    whole = BatchSchedule(lengths, **RULES, overlong="split", epochs=1)
    pieces = [
        _piece(rows[document], start, stop)
        for batch in whole
        for document, start, stop in batch.excerpts
    ]
    return losses, accumulate_gradients(model, pieces, torch.device("cpu"))


def _piece(row: Any, start: int, stop: int) -> dict[str, list[int]]:
    """Some tokens of a document, of which the last has the next one to predict."""
    after = slice(start, stop + 1)
    return {"input_ids": row["input_ids"][after], "labels": row["labels"][after]}


def trained(directory: Path) -> dict[str, Any]:
    """What a trainer logs, and what one rank comes to."""
    metrics = directory / "metrics.jsonl"
    trainer = trainer_of(directory, metrics=metrics)
    trainer.train()
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    expected, expected_eval = of_one_rank(list(documents()), trainer.args.seed, epochs=2)
    tokens = trainer.floating_point_ops({"input_ids": torch.zeros(1)})
    return {
        "losses": losses_of(trainer),
        "expected": expected,
        "eval": trainer.evaluate()["eval_loss"],
        "expected_eval": expected_eval,
        "epoch": trainer.state.epoch,
        "norms": [each["grad_norm"] for each in trainer.state.log_history if "grad_norm" in each],
        "metrics": lines,
        "work": trainer.state.total_flos / tokens,
    }


def saved(directory: Path) -> dict[int, float]:
    """Losses of a run that writes checkpoints."""
    trainer = trainer_of(directory, save_strategy="steps", save_steps=4)
    trainer.train()
    return losses_of(trainer)


def resumed(directory: Path) -> dict[int, float]:
    """Losses of a run that goes on from the first checkpoint."""
    trainer = trainer_of(directory)
    # What is drawn is to come from the checkpoint, not from the model that is given.
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    trainer.train(resume_from_checkpoint=str(directory / "checkpoint-4"))
    return losses_of(trainer)


def fine_tuned(directory: Path, model_directory: Path) -> dict[str, Any]:
    """What SFTTrainer logs of prompts and completions, and what one rank comes to."""
    begin()
    import tiny
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class PlannedSFTTrainer(TrainerMixin, SFTTrainer):
        """An SFTTrainer as users write it."""

    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    tokenizer.pad_token = "<unk>"
    rows = [
        {"prompt": " ".join(text.split()[:90]), "completion": f" {tiny.WORDS[index]} word7"}
        for index, text in enumerate(tiny.texts(20))
    ]
    config = SFTConfig(
        str(directory),
        num_train_epochs=2,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=None,
        **LEARNING,
    )
    trainer = PlannedSFTTrainer(
        model=whole_model("llama"),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        planner=planner(),
        **RULES,
    )
    trainer.train()
    prepared: Any = trainer.train_dataset
    learnt = [[label for label in row["labels"] if label != -100] for row in prepared]
    expected, _ = of_one_rank(list(prepared), config.seed, epochs=2)
    return {"losses": losses_of(trainer), "expected": expected, "learnt": learnt}


def refused(directory: Path) -> dict[str, str]:
    """What is said of arguments that plans can't have."""
    from trl import SFTConfig

    begin()

    def said(args: Any, **options: Any) -> str:
        given: dict[str, Any] = {
            "model": whole_model("llama"),
            "train_dataset": documents(),
            "planner": planner(),
            **RULES,
            **options,
        }
        return error_of(lambda: PlannedTrainer(args=args, **given))

    found = {
        "accumulation": said(arguments(directory, gradient_accumulation_steps=2)),
        "sampling": said(arguments(directory, train_sampling_strategy="group_by_length")),
        "half an epoch": said(arguments(directory, num_train_epochs=0.5)),
        "smoothing": said(arguments(directory, label_smoothing_factor=0.1)),
        "packing": said(SFTConfig(str(directory), packing=True, use_cpu=True, bf16=False)),
        "loss": said(arguments(directory), compute_loss_func=lambda *_: None),
        "collator": said(arguments(directory), data_collator=lambda rows: rows),
    }
    trainer = trainer_of(directory)
    trainer.train_dataset = documents().rename_column("title", "seq_lengths")
    found["packed"] = error_of(trainer.train)
    trainer.train_dataset = (
        documents().remove_columns("labels").rename_column("title", "completion_mask")
    )
    found["masks"] = error_of(trainer.train)
    trainer.train_dataset = documents().to_iterable_dataset()
    found["endless"] = error_of(trainer.train)
    found["predict"] = error_of(lambda: trainer.predict(documents()))
    found["nothing saved"] = error_of(lambda: trainer.train(resume_from_checkpoint=True))
    return found


def accelerated() -> dict[str, Any]:
    """Losses of a loop of one's own with accelerate, and what one rank comes to."""
    begin()
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = sharded(whole_model("llama"))
    model = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = get_scheduler("constant", optimizer)
    optimizer, schedule = accelerator.prepare(optimizer, schedule)
    cp = ContextParallel(planner(), model, mesh())
    return {"losses": _accelerated_loop(accelerator, cp, model, optimizer), "plain": _plain_loop()}


def sharded_by_accelerate() -> dict[str, Any]:
    """Losses where accelerate has sharded the model, as it does on accelerators alone."""
    begin()
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin, fsdp2_prepare_model

    accelerator = Accelerator(cpu=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
    )
    model = whole_model("llama")
    on_accelerators = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="no",
        is_main_process=accelerator.is_main_process,
        device=accelerator.device,
    )
    model = fsdp2_prepare_model(on_accelerators, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    cp = ContextParallel(planner(), model, mesh())
    return {"losses": _accelerated_loop(accelerator, cp, model, optimizer), "plain": _plain_loop()}


def _accelerated_loop(
    accelerator: Any, cp: ContextParallel, model: Any, optimizer: Any
) -> list[float]:
    losses: list[float] = []
    for step in cp.batches(documents(), **RULES, seed=1, epochs=1):
        total = torch.zeros(())
        for micro_batch in step:
            loss = cp.loss(model, micro_batch)
            accelerator.backward(loss)
            total += loss.detach()
        accelerator.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(accelerator.reduce(total, "sum")))
    return losses


def _plain_loop() -> list[float]:
    rows: list[Any] = list(documents())
    model = whole_model("llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for batch in BatchSchedule(SEQ_LENS, **RULES, seed=1, epochs=1):
        pieces = [_piece(rows[document], start, stop) for document, start, stop in batch.excerpts]
        losses.append(accumulate_gradients(model, pieces, torch.device("cpu")))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return losses
