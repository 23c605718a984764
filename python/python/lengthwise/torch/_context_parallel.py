"""Training steps whose micro-batches have groups of different degrees."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Protocol, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from lengthwise import Plan, Planner
from lengthwise._lengthwise import Refinement
from lengthwise.errors import InputError, InputTypeError
from lengthwise.torch import _attention
from lengthwise.torch._activations import follow_plans, layers_of
from lengthwise.torch._agreement import agreed
from lengthwise.torch._arguments import at_least
from lengthwise.torch._batches import Batches
from lengthwise.torch._evaluation import TOKENS, mean_loss
from lengthwise.torch._exchange import GroupExchange
from lengthwise.torch._host_inputs import HostInputs, HostMeter
from lengthwise.torch._loss import head_computes_loss, summed_cross_entropy
from lengthwise.torch._marks import marks
from lengthwise.torch._measured_for import check_measured_for
from lengthwise.torch._measured_steps import MeasuredSteps
from lengthwise.torch._memory_error import out_of_memory_is_ours
from lengthwise.torch._micro_batch import MicroBatch
from lengthwise.torch._open_source import BatchRules, open_source
from lengthwise.torch._plan_digest import plan_digest
from lengthwise.torch._plan_limits import PlanLimits, check_plan
from lengthwise.torch._rank_failure import waiting_for, world_timeout
from lengthwise.torch._requirements import (
    UnsupportedModelError,
    check_kinds,
    check_model,
    check_shards,
)
from lengthwise.torch._reshard import reshard
from lengthwise.torch._scatter import scatter
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._step import Step


class StepPlanner(Protocol):
    """What decides about a step: `lengthwise.Planner`, or anything that plans as it does.

    All ranks must come to the same plan.
    """

    @property
    def num_ranks(self) -> int:
        """The ranks of the plans."""
        ...

    def plan(self, lengths: list[int], /) -> Plan:
        """Return a plan for sequences of these lengths in tokens."""
        ...


class ContextParallel:
    """Runs plans on a model of transformers that is sharded by FSDP2.

    Parameters
    ----------
    planner : Planner
        Decides for every step which ranks work together, and on which sequences.
    model : Module
        A causal language model of transformers to which ``fully_shard`` was applied. Its attention
        becomes ``lengthwise``, and FSDP2 is set to sum gradients rather than to average them.
    mesh : DeviceMesh
        All ranks of the world: one dimension, or two for hybrid sharding.
    refine : bool
        Whether measured steps refine the costs of a `lengthwise.Planner`, as in ``lengthwise
        train``; another planner is left as it is.
    metrics : str or os.PathLike, optional
        A file to which rank 0 adds a line for each step, as ``lengthwise train --metrics`` does;
        ``lengthwise report`` shows it.

    Raises
    ------
    UnsupportedModelError
        The model, or how it is sharded, is such that gradients would be wrong.
    InputError
        The planner plans for another number of ranks, or by a profile of another model; or the
        file of metrics can't be written.
    """

    def __init__(
        self,
        planner: StepPlanner,
        model: nn.Module,
        mesh: DeviceMesh,
        *,
        refine: bool = True,
        metrics: str | PathLike[str] | None = None,
    ) -> None:
        _check_kind(planner)
        check_kinds(model, mesh)
        check_model(model)
        reshard(model)
        check_shards(model, mesh)
        if planner.num_ranks != mesh.size():
            msg = f"the planner has {planner.num_ranks} ranks and the mesh {mesh.size()}"
            raise InputError(msg, hint="give the planner devices=" + str(mesh.size()))
        if isinstance(planner, Planner):
            check_measured_for(planner.profile, model, mesh)
        self._model = model
        self._planner = planner
        self._refinement = Refinement(planner) if refine and isinstance(planner, Planner) else None
        self._device = _device(mesh)
        config: Any = model.config
        self._limits = PlanLimits(config.num_attention_heads, can_recompute=bool(layers_of(model)))
        self._num_ids: int = config.vocab_size
        _attention.register()
        _set_attention(model)
        follow_plans(model, _attention.KEYWORD)
        sum_gradients(model)
        group = dist.new_group(list(range(mesh.size())), timeout=world_timeout(self._device))
        assert isinstance(group, dist.ProcessGroup)
        # NCCL leaves undefined what point-to-point calls of some ranks do before any of all ranks.
        dist.all_reduce(torch.zeros(1, device=self._device), group=group)
        self._exchange = GroupExchange(group)
        self._host_meter = HostMeter()
        self._batches: Batches | None = None
        # A position that was loaded before there was data to go on in.
        self._loaded_position = ""
        self._steps = MeasuredSteps(
            marks(self._device), group, self._device, self._host_meter, metrics
        )
        self._is_first_step = True
        self._is_closed = False
        self._exchange.clock = self._steps.exchange_clock

    @property
    def device(self) -> torch.device:
        """The device of this rank."""
        return self._device

    @property
    def exchange(self) -> GroupExchange:
        """How the ranks of a group exchange."""
        return self._exchange

    @property
    def bytes_sent(self) -> int:
        """Bytes of queries, keys, values and what was attended that this rank has sent so far."""
        return self._exchange.bytes_sent

    @property
    def peak_host_bytes(self) -> int:
        """The most bytes of layer inputs that this rank has had on the host at a time."""
        return self._host_meter.peak_bytes

    def step(self, sequences: Iterable[Any]) -> Step:
        """Return what this rank runs of a step; a collective call of all ranks.

        Parameters
        ----------
        sequences : iterable
            All sequences of the step, the same on every rank: each a list of token ids, or a
            mapping with ``input_ids`` and perhaps ``labels``, aligned with the ids, -100 where a
            token doesn't count.

        Returns
        -------
        Step
            As many micro-batches on every rank. A rank without work runs a token without weight.

        Raises
        ------
        InputError
            A sequence is no sequence, no token has a label, a plan can't be run, or ranks were
            given different sequences: on every rank.
        """
        self._end_step()
        begun = time.perf_counter()
        plan, read = agreed(
            lambda: self._planned(sequences), _digest, "the sequences or the plans of a step"
        )
        num_labels = sum(sequence.num_labels for sequence in read)
        waited_s = time.perf_counter() - begun
        step = self._scattered(plan, dict(enumerate(read)), num_labels)
        return self._steps.begin(dataclasses.replace(step, plan_wait_s=waited_s))

    def batches(
        self,
        dataset: Any,
        *,
        tokens: SupportsIndex | str | None = None,
        sequences: SupportsIndex | None = None,
        context: SupportsIndex | str | None = None,
        overlong: str = "split",
        min_tokens: SupportsIndex | str = 1,
        seed: SupportsIndex | None = 0,
        epochs: SupportsIndex | None = None,
        steps: SupportsIndex | None = None,
        lengths: str | Iterable[int] | None = None,
        depth: SupportsIndex = 4,
    ) -> Batches:
        """Return the steps of a run over a data set; a collective call of all ranks.

        Which sequences make which batch is decided as in the trainer of Lengthwise. A batch takes
        sequences strictly in their order; the first that doesn't fit begins the next batch. After
        an epoch, in which every sequence comes once, the next begins, and a batch is filled up from
        it. Steps are planned ahead, and the tokens of the next one are read, while others run.

        Parameters
        ----------
        dataset : object
            Of documents: lists of token ids, or mappings with ``input_ids`` and perhaps ``labels``.
            All ranks must be given the same. Either it has ``__len__`` and ``__getitem__``; then
            sequences are shuffled, and a rank reads only those of its own groups. Or it can only be
            iterated; then sequences come in its order, and every rank reads all.
        tokens : int or str, optional
            The most tokens of a batch, for example 4_000_000 or "4M". A single sequence may exceed
            it.
        sequences : int, optional
            The number of sequences of a batch, in place of `tokens`.
        context : int or str, optional
            The longest sequence in tokens; that of the planner by default.
        overlong : str
            What becomes of longer documents: "split" into sequences of their own, of which none
            looks back across a cut, "truncate" or "skip".
        min_tokens : int or str
            The shortest sequence in tokens; shorter ones are left out.
        seed : int or None
            Of the order, which is another one every epoch. With None, sequences come in the order
            of their documents, as those of a data set that can only be iterated always do.
        epochs : int, optional
            After how many epochs steps end; the last batch is what is left.
        steps : int, optional
            After how many steps they end, those before a resume included.
        lengths : str or iterable of int, optional
            The lengths of documents in tokens, or the name of a column that has them. By default
            they are in a column ``length``, ``lengths`` or ``num_tokens``; without one, ranks read
            all documents once, each a share, and count.
        depth : int
            How many steps are planned ahead.

        Returns
        -------
        Batches
            An iterable of `Step`. `state_dict` and `load_state_dict` of this object are about it.

        Raises
        ------
        InputError, InputTypeError
            An argument or a data set that can't be used, or that differs between ranks.
        InfeasibleError
            A sequence that no group has memory for.
        """
        rules = BatchRules(
            context, overlong, min_tokens, tokens, sequences, seed, epochs, steps, depth
        )
        source = open_source(dataset, rules, lengths, self._planner, self._num_ids)
        batches = Batches(
            source,
            lambda: self._planner,
            self._scattered,
            self._limits,
            begin_step=self._steps.begin,
            end_step=self._end_step,
            steps=steps,
            depth=depth,
        )
        if self._loaded_position:
            batches.load_state_dict(json.loads(self._loaded_position))
            self._loaded_position = ""
        self._batches = batches
        return batches

    def evaluate(
        self,
        model: nn.Module,
        dataset: Any,
        *,
        tokens: SupportsIndex | str | None = None,
        sequences: SupportsIndex | None = None,
        context: SupportsIndex | str | None = None,
        overlong: str = "split",
        min_tokens: SupportsIndex | str = 1,
        lengths: str | Iterable[int] | None = None,
        depth: SupportsIndex = 4,
    ) -> float:
        """Return the mean loss of a label over a whole data set; a collective call of all ranks.

        Documents come once, in their order. The model is in its mode for evaluation, and no
        gradient is computed. The loss is the same on every rank, and doesn't depend on how many
        there are or on how the data is divided into steps, but for rounding.

        Parameters
        ----------
        model : Module
            The model.
        dataset : object
            As `batches` takes it.
        tokens, sequences : optional
            As `batches` takes them; 1048576 tokens by default.
        context, overlong, min_tokens, lengths, depth : optional
            As `batches` takes them.

        Returns
        -------
        float
            The mean cross-entropy in nats.

        Raises
        ------
        InputError, InputTypeError, InfeasibleError
            As for `batches`, or no token has a label.
        """
        # Evaluating takes no part in a step of training.
        self._end_step()
        if tokens is None and sequences is None:
            tokens = TOKENS
        rules = BatchRules(
            context,
            overlong,
            min_tokens,
            tokens,
            sequences,
            seed=None,
            epochs=1,
            steps=None,
            depth=depth,
        )
        return mean_loss(
            model,
            open_source(dataset, rules, lengths, self._planner, self._num_ids),
            lambda: self._planner,
            self._scattered,
            self.loss,
            limits=self._limits,
            depth=at_least("depth", depth, 1),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return where to go on in the data: after the last step that was handed out.

        With `load_state_dict` it makes this object one that ``torch.distributed.checkpoint`` saves
        and loads, on any number of ranks.

        Returns
        -------
        dict
            Text by its name: the position in what `batches` returned last.
        """
        # Who saves has done the step, and what saving takes is no part of it.
        self._steps.stop_clock()
        position = self._loaded_position
        if self._batches is not None:
            position = json.dumps(self._batches.state_dict())
        return {"data": position}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where another run was, in what `batches` has returned or will return next.

        Parameters
        ----------
        state_dict : mapping
            What `state_dict` has returned.

        Raises
        ------
        InputError, InputTypeError
            It is of another data set or of other rules, or is none.
        """
        given: Any = state_dict
        position: Any = given.get("data") if isinstance(given, Mapping) else None  # pyright: ignore
        if not isinstance(position, str):
            raise InputTypeError("the state has no text called data, as state_dict returns it")
        try:
            found: Any = json.loads(position) if position else None
        except ValueError as error:
            raise InputError(f"the position in the data is not JSON: {error}") from None
        if self._batches is None:
            self._loaded_position = position
        elif position:
            self._batches.load_state_dict(found)

    def loss(self, model: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """Return this rank's part of the step's loss: its summed token losses / all labels.

        The parts of all ranks and micro-batches add up to the mean loss of a label of the step, and
        their gradients to its gradient. Call ``backward`` on each before the next.

        Parameters
        ----------
        model : Module
            The model.
        micro_batch : MicroBatch
            What `step` has returned.

        Raises
        ------
        InputError, InputTypeError
            The model is another one than this object was made for, or the micro-batch is none.
        RankFailedError
            Another rank failed, or did not answer within the timeout of the process group.
        """
        self._check_own(model)
        _check_micro_batch(micro_batch)
        causal_model: Any = model
        with (
            waiting_for(f"all ranks in the forward of {_name(micro_batch)}"),
            out_of_memory_is_ours(self._planner, micro_batch),
            head_computes_loss(
                causal_model.get_output_embeddings(), micro_batch.targets
            ) as computed,
        ):
            output = model(**self.inputs(micro_batch))
        # FSDP2 may have cast it; whatever else happened to it would have been meant for logits.
        is_cast = computed and output.logits.dtype != computed[0].dtype
        if len(computed) != 1 or not (is_cast or output.logits is computed[0]):
            msg = f"{type(model).__name__.removeprefix('FSDP')} changes its logits after the head"
            raise UnsupportedModelError(msg)
        summed: Tensor = output.logits.float().sum()
        loss = summed / micro_batch.loss_divisor
        self._steps.note_loss(micro_batch, loss)
        return loss

    def inputs(self, micro_batch: MicroBatch) -> dict[str, Any]:
        """Return what the model's forward takes, for losses other than `loss` computes.

        Parameters
        ----------
        micro_batch : MicroBatch
            What a step has.

        Returns
        -------
        dict
            Keyword arguments. What the model returns is of this rank's tokens, in the order of
            ``micro_batch.targets``; a rank without work has one weightless token.
        """
        _check_micro_batch(micro_batch)
        self._check_open()
        return {
            "input_ids": micro_batch.input_ids,
            "position_ids": micro_batch.position_ids,
            "use_cache": False,
            _attention.KEYWORD: _attention.MicroBatchWork(
                micro_batch.share,
                self._exchange,
                _name(micro_batch),
                micro_batch.activations,
                HostInputs(self._host_meter),
            ),
        }

    def loss_of_logits(self, logits: Tensor, micro_batch: MicroBatch) -> Tensor:
        """Return what `loss` does, from logits that ``model(**cp.inputs(micro_batch))`` has made.

        All logits are in memory then, where `loss` has those of a chunk of tokens.

        Parameters
        ----------
        logits : Tensor
            ``[1, tokens, vocabulary]``, changed as you like.
        micro_batch : MicroBatch
            What they are of.

        Raises
        ------
        InputError
            There are not as many as the micro-batch has tokens on this rank.
        """
        targets = micro_batch.targets
        if logits.ndim != 3 or logits.shape[:2] != (1, len(targets)):
            msg = f"logits have the shape {tuple(logits.shape)}; the rank has {len(targets)} tokens"
            raise InputError(msg, hint="give the logits of model(**cp.inputs(micro_batch))")
        loss = summed_cross_entropy(logits[0], targets) / micro_batch.loss_divisor
        self._steps.note_loss(micro_batch, loss)
        return loss

    def close(self) -> None:
        """End the last step, and give up the process group of exchanges; on all ranks."""
        if self._is_closed:
            return
        self._end_step()
        self._steps.close()
        self._is_closed = True
        dist.destroy_process_group(self._exchange.process_group)

    def _scattered(
        self, plan: Plan, sequences: Mapping[int, TokenSequence], num_labels: int
    ) -> Step:
        return scatter(plan, sequences, num_labels, dist.get_rank(), self._device)

    def _end_step(self) -> None:
        """Agree on what the step before took, and refine costs; a collective call of all ranks.

        Belongs to where the next step is asked for, and to where there is none any more.
        """
        self._check_open()
        ended = self._steps.end()
        is_first, self._is_first_step = self._is_first_step, self._is_first_step and ended is None
        # The first step sets up memory, kernels and connections, which no other does.
        if ended is not None and self._refinement is not None and not is_first:
            plan, times = ended
            self._planner = self._refinement.observe(
                plan, list(times.micro_batches_s), times.rest_s
            )

    def _check_own(self, model: Any) -> None:
        """Refuse a model whose attention and sums of gradients are not set."""
        if model is self._model:
            return
        if not isinstance(model, nn.Module):
            raise InputTypeError(f"the model is {type(model).__name__}, not a Module")
        # One may wrap the other, as adapters and accelerate do.
        is_part = any(module is model for module in self._model.modules())
        if not is_part and all(module is not self._model for module in model.modules()):
            name = type(model).__name__.removeprefix("FSDP")
            msg = f"this {name} is another model than ContextParallel was made for"
            raise InputError(msg, hint="make a ContextParallel for each model")

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("this ContextParallel is closed", hint="make another one")

    def _planned(self, sequences: Iterable[Any]) -> tuple[Plan, list[TokenSequence]]:
        read = [TokenSequence.read(value, f"sequence {i}") for i, value in enumerate(sequences)]
        if not read:
            raise InputError("the step has no sequence")
        for index, sequence in enumerate(read):
            if len(sequence.input_ids) == 0:
                raise InputError(f"sequence {index} has no token")
        if not any(sequence.num_labels for sequence in read):
            msg = f"none of the {len(read)} sequences of the step has a label, so it has no loss"
            raise InputError(msg, hint="a sequence of one token has nothing to predict")
        for index, sequence in enumerate(read):
            sequence.check_vocabulary(self._num_ids, f"sequence {index}")
        seq_lens = [len(sequence.input_ids) for sequence in read]
        plan = self._planner.plan(seq_lens)
        check_plan(plan, seq_lens, dist.get_world_size(), self._limits)
        return plan, read


def sum_gradients(model: nn.Module) -> None:
    """Let FSDP2 sum gradients over ranks: their losses are divided by what the whole step has."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # A factor of 1 is a plain sum, which every backend has; FSDP2 would have it scaled.
            module.set_force_sum_reduction_for_comms(True)


def _check_kind(planner: Any) -> None:
    if not hasattr(planner, "num_ranks") or not hasattr(planner, "plan"):
        msg = f"the planner is {type(planner).__name__}, which has no plans"
        raise InputTypeError(msg, hint="give a lengthwise.Planner")


def _check_micro_batch(micro_batch: Any) -> None:
    if not isinstance(micro_batch, MicroBatch):
        msg = f"the micro-batch is {type(micro_batch).__name__}, not a MicroBatch"
        raise InputTypeError(msg, hint="iterate over a step to get its micro-batches")


def _name(micro_batch: MicroBatch) -> str:
    return f"micro-batch {micro_batch.index}"


def _set_attention(model: nn.Module) -> None:
    config: Any = model.config
    causal_model: Any = model
    causal_model.set_attn_implementation(_attention.NAME)
    if config._attn_implementation != _attention.NAME:
        # The class that FSDP2 has made of the model's doesn't tell where its source is.
        config._attn_implementation = _attention.NAME


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )


def _digest(planned: tuple[Plan, list[TokenSequence]]) -> bytes:
    plan, sequences = planned
    digest = hashlib.blake2b(plan_digest(plan), digest_size=16)
    for sequence in sequences:
        digest.update(sequence.digest())
    return digest.digest()
