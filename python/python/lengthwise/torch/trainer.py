"""Plans under the Trainer of transformers, and under the SFTTrainer of TRL.

>>> from transformers import Trainer  # doctest: +SKIP
>>> from lengthwise.torch.trainer import TrainerMixin  # doctest: +SKIP
>>> class PlannedTrainer(TrainerMixin, Trainer):  # doctest: +SKIP
...     pass
>>> trainer = PlannedTrainer(  # doctest: +SKIP
...     model=model, args=args, train_dataset=dataset, planner=planner, tokens="4M"
... )
>>> trainer.train()  # doctest: +SKIP
"""

# The class beside which the mixin stands is not known here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint, speed_metrics

from lengthwise.errors import InputError
from lengthwise.torch._agreement import from_rank_0
from lengthwise.torch._context_parallel import ContextParallel, StepPlanner
from lengthwise.torch._step import Step
from lengthwise.torch._trainer_arguments import check_trainer_arguments, token_columns
from lengthwise.torch._trainer_steps import STEP, StepLoader
from lengthwise.torch._whole_sharding import mesh_of, shard

__all__ = ["TrainerMixin"]

#: The position in the data, in a checkpoint of a Trainer.
POSITION = "lengthwise_position.json"

#: The sharded model and optimizer, in a checkpoint of a Trainer.
SHARDS = "lengthwise_shards"

#: The state of the schedule, where a Trainer has it.
SCHEDULE = "scheduler.pt"

_Base: Any = object
if TYPE_CHECKING:
    from transformers import Trainer

    _Base = Trainer


class TrainerMixin(_Base):
    """Stands before `Trainer` or `SFTTrainer` in the bases of a class.

    A step of the trainer is a step of `ContextParallel.batches`, with all its micro-batches.
    ``per_device_train_batch_size`` and ``data_collator`` say nothing then. Clipping, optimizer,
    schedule, callbacks and logs are the trainer's.

    A model that isn't sharded is, by ``fully_shard``: layers and whole, or as the plugin for FSDP2
    of accelerate does it where that is in use, which is on accelerators only.

    Checkpoints have the position in the data, and hold on any number of ranks.

    Parameters
    ----------
    *args, **kwargs
        As the trainer takes them.
    planner : Planner
        As `ContextParallel` takes it.
    tokens, sequences, context, overlong, min_tokens, lengths : optional
        As `ContextParallel.batches` takes them. The seed is ``data_seed`` or ``seed`` of the
        trainer's arguments.
    refine, metrics : optional
        As `ContextParallel` takes them.

    Attributes
    ----------
    context_parallel : ContextParallel
        What runs plans.

    Raises
    ------
    InputError
        An argument of the trainer asks for what plans can't do.
    UnsupportedModelError
        As for `ContextParallel`.
    """

    context_parallel: ContextParallel

    def __init__(
        self,
        *args: Any,
        planner: StepPlanner,
        tokens: SupportsIndex | str | None = None,
        sequences: SupportsIndex | None = None,
        context: SupportsIndex | str | None = None,
        overlong: str = "split",
        min_tokens: SupportsIndex | str = 1,
        lengths: str | Iterable[int] | None = None,
        refine: bool = True,
        metrics: str | PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        # Bound methods leave themselves out.
        given = inspect.signature(super().__init__).bind_partial(*args, **kwargs).arguments
        check_trainer_arguments({**given, **given.get("kwargs", {})})
        super().__init__(*args, **kwargs)
        # By default TRL and accelerate fill some of them in.
        check_trainer_arguments({"args": self.args})
        if not dist.is_initialized():
            raise InputError("there is no process group", hint="start the script by torchrun")
        self._rules: dict[str, Any] = {
            "context": context,
            "overlong": overlong,
            "min_tokens": min_tokens,
        }
        self._batch_size: dict[str, Any] = {"tokens": tokens, "sequences": sequences}
        self._lengths = lengths
        self._loader: StepLoader | None = None
        self._resumed_from: Path | None = None
        self._step: Step | None = None
        model: Any = self.model
        mesh = mesh_of(model)
        if mesh is None:
            self._shard(model)
            mesh = mesh_of(model)
        if mesh is None:
            mesh = init_device_mesh(self.args.device.type, (dist.get_world_size(),))
        # What is prepared is not wrapped by DistributedDataParallel.
        model._is_accelerate_prepared = True
        self.context_parallel = ContextParallel(
            planner, model, mesh, refine=refine, metrics=metrics
        )
        self.add_callback(_PositionCallback(self))

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train, as the trainer does; see there."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(str(self.args.output_dir))
            if resume_from_checkpoint is None:
                raise InputError(f"{self.args.output_dir} has no checkpoint to go on from")
        self._resumed_from = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        loader = self.get_train_dataloader()
        own = self.args.max_steps, self.args.ignore_data_skip
        # The number of steps is known, and they begin where the position says.
        self.args.max_steps, self.args.ignore_data_skip = loader.num_steps, True
        self._loader = loader
        try:
            outcome = super().train(resume_from_checkpoint or None, *args, **kwargs)
            loader.finish()
            return outcome
        finally:
            self.args.max_steps, self.args.ignore_data_skip = own
            self._loader = None
            loader.close()

    def get_train_dataloader(self) -> Any:
        """Return the steps of the run; a collective call of all ranks."""
        if self._loader is not None:
            return self._loader
        dataset = self.train_dataset
        if dataset is None:
            raise InputError("the trainer has no train_dataset")
        has_steps = self.args.max_steps > 0
        epochs = None if has_steps else int(self.args.num_train_epochs)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        batches = self.context_parallel.batches(
            token_columns(dataset, "train_dataset"),
            **self._rules,
            **self._batch_size,
            lengths=self._lengths,
            seed=seed,
            epochs=epochs,
            steps=self.args.max_steps if has_steps else None,
        )
        if self._resumed_from is not None:
            path = self._resumed_from / POSITION
            batches.load_state_dict(json.loads(from_rank_0(path.read_text)))
        return StepLoader(batches, dataset, epochs)

    def training_step(
        self, model: nn.Module, inputs: Mapping[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Run all micro-batches of a step; return the mean loss of a label of all ranks."""
        model.train()
        optimizer: Any = self.optimizer
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()
        total = torch.zeros((), device=self.args.device)
        step: Step = inputs[STEP]
        self._step = step
        for micro_batch in step:
            loss = self.context_parallel.loss(model, micro_batch)
            self.accelerator.backward(loss)
            total += loss.detach()
        dist.all_reduce(total)
        return total

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the mean loss of a label; a collective call of all ranks."""
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            named: Any = self.eval_dataset
            dataset = named[dataset]
        if isinstance(dataset, dict):
            found: dict[str, float] = {}
            for name, each in dataset.items():
                found |= self.evaluate(each, ignore_keys, f"{metric_key_prefix}_{name}")
            return found
        if dataset is None:
            raise InputError("the trainer has no eval_dataset")
        began = time.time()
        model: Any = self.model
        loss = self.context_parallel.evaluate(
            model, token_columns(dataset, "eval_dataset"), **self._rules, **self._batch_size
        )
        metrics: dict[str, float] = {f"{metric_key_prefix}_loss": loss}
        num_samples = len(dataset) if hasattr(dataset, "__len__") else None
        metrics |= speed_metrics(metric_key_prefix, began, num_samples=num_samples)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: no rank has the logits of whole sequences."""
        raise InputError("predict needs the logits of whole sequences, which no rank has")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the whole model, as ``from_pretrained`` reads it; a collective call."""
        if self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole = get_model_state_dict(self._own_model, options=options)
        if self.args.should_save:
            self._save(output_dir or self.args.output_dir, state_dict=whole)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        model, optimizer = self._own_model, self._own_optimizer
        state = {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, optimizer),
        }
        save(state, checkpoint_id=Path(output_dir) / SHARDS)
        if self.args.should_save and self.lr_scheduler is not None:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        state = {"model": get_model_state_dict(self._own_model)}
        load(state, checkpoint_id=_shards_of(resume_from_checkpoint))
        set_model_state_dict(self._own_model, state["model"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.is_fsdp_enabled or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        model, optimizer = self._own_model, self._own_optimizer
        state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        load(state, checkpoint_id=_shards_of(checkpoint))
        set_optimizer_state_dict(model, optimizer, state["optimizer"])
        if self.lr_scheduler is not None:
            state = torch.load(Path(checkpoint) / SCHEDULE, weights_only=True)
            self.lr_scheduler.load_state_dict(state)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm: Any = super()._get_grad_norm(model, grad_norm)
        # Some versions of PyTorch return each rank's part.
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if self._step is not None:
            self._step.record(gradient_norm=norm, learning_rate=self._get_learning_rate())
            self._step = None
        return norm

    @property
    def _own_model(self) -> nn.Module:
        model: Any = self.model
        return model

    @property
    def _own_optimizer(self) -> torch.optim.Optimizer:
        # accelerate wraps it.
        optimizer: Any = self.optimizer
        return getattr(optimizer, "optimizer", optimizer)

    def _shard(self, model: nn.Module) -> None:
        if self.is_fsdp_enabled:
            from accelerate.utils import (  # pyright: ignore[reportMissingTypeStubs]
                fsdp2_prepare_model,
            )

            fsdp2_prepare_model(self.accelerator, model)
            return
        mesh = init_device_mesh(self.args.device.type, (dist.get_world_size(),))
        policy = MixedPrecisionPolicy()
        if self.args.bf16:
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        shard(model, mesh, policy)


class _PositionCallback(TrainerCallback):
    """Writes the position in the data beside what a trainer saves."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loader: StepLoader | None = self._trainer._loader
        if loader is None or not args.should_save:
            return
        directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if directory.is_dir():
            (directory / POSITION).write_text(json.dumps(loader.batches.state_dict()))


def _shards_of(checkpoint: str | PathLike[str]) -> Path:
    path = Path(checkpoint) / SHARDS
    if not path.is_dir():
        msg = f"{checkpoint} has no {SHARDS}; it was written by another trainer, or without "
        raise InputError(msg + "optimizer (save_only_model)")
    return path
