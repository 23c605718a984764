"""Gradients of a plan against those of one process; everything here runs in a world."""

from __future__ import annotations

import random
import weakref
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from models import VOCAB, GivenPlan, mesh, sharded, whole_model
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from lengthwise.torch import ContextParallel, _ring
from lengthwise.torch._places import Places
from lengthwise.torch._random_steps import GroupPlan, plan_of, random_step

#: The rule of crates/lengthwise-train/tests/gradient_invariance.rs.
TOLERANCE, ZERO = 1e-5, 1e-8


def sequences_of(seq_lens: list[int], seed: int) -> list[dict[str, list[int]]]:
    """Sequences of which some tokens have no label."""
    choice = random.Random(seed)
    sequences: list[dict[str, list[int]]] = []
    for seq_len in seq_lens:
        ids = [choice.randrange(VOCAB) for _ in range(seq_len)]
        labels = [-100 if choice.random() < 0.2 else token for token in ids]
        sequences.append({"input_ids": ids, "labels": labels})
    return sequences


def of_one_process(model: Any, sequences: list[dict[str, list[int]]]) -> tuple[float, Any]:
    """Loss and gradients of the whole model, by transformers alone: its own attention and loss."""
    model.set_attn_implementation("eager")
    # transformers shifts labels, so the first has no token that predicts it.
    num_labels = sum(label != -100 for each in sequences for label in each["labels"][1:])
    total = 0.0
    for sequence in sequences:
        ids = torch.tensor([sequence["input_ids"]])
        logits = model(input_ids=ids, use_cache=False).logits[0]
        labels = torch.tensor(sequence["labels"])[1:]
        loss = F.cross_entropy(logits[:-1], labels, reduction="sum") / num_labels
        loss.backward()
        total += float(loss.detach())
    return total, {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def of_plan(
    model: Any,
    plan: Any,
    sequences: list[dict[str, list[int]]],
    ranks: Any = None,
    is_reduced_at_the_end: bool = False,
    has_own_logits: bool = False,
) -> tuple[float, dict[str, Any], int]:
    """Loss and gradients of a sharded model, whole, and the bytes that this rank has sent."""
    cp = ContextParallel(GivenPlan(plan), model, mesh() if ranks is None else ranks)
    return of_step(cp, model, sequences, is_reduced_at_the_end, has_own_logits)


def of_step(
    cp: ContextParallel,
    model: Any,
    sequences: list[dict[str, list[int]]],
    is_reduced_at_the_end: bool = False,
    has_own_logits: bool = False,
) -> tuple[float, dict[str, Any], int]:
    """The same, with the plan that `cp` has."""
    total = torch.zeros(())
    micro_batches = cp.step(sequences)
    for micro_batch in micro_batches:
        is_last = micro_batch.index + 1 == len(micro_batches)
        model.set_requires_gradient_sync(is_last or not is_reduced_at_the_end)
        if has_own_logits:
            logits = model(**cp.inputs(micro_batch)).logits
            loss = cp.loss_of_logits(logits, micro_batch)
        else:
            loss = cp.loss(model, micro_batch)
        loss.backward()
        total += loss.detach()
    dist.all_reduce(total)
    gradients = {
        name: parameter.grad.full_tensor()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert all(each.requires_grad or each.grad is None for each in model.parameters())
    model.zero_grad(set_to_none=True)
    return float(total), gradients, cp.bytes_sent


def faults_of(expected: tuple[float, Any], found: tuple[float, Any, int], what: str) -> list[str]:
    """What differs by more than the rule allows."""
    loss, gradients, _ = found
    faults: list[str] = []
    if not abs(loss / expected[0] - 1.0) <= TOLERANCE:
        faults.append(f"{what}: loss {loss}, of one process {expected[0]}")
    whole_norm = sum(float(gradient.double().square().sum()) for gradient in expected[1].values())
    whole_norm **= 0.5
    assert whole_norm > 0.0
    assert gradients.keys() == expected[1].keys()
    for name, theirs in expected[1].items():
        error = float((gradients[name].double() - theirs.double()).norm())
        norm = float(theirs.double().norm())
        if not error <= max(TOLERANCE * norm, ZERO * whole_norm):
            faults.append(f"{what}: {name} is off by {error:.1e}, its norm is {norm:.1e}")
    return faults


def chosen(
    name: str, seq_lens: list[int], micro_batches: list[Any], checkpointing: bool = False
) -> list[str]:
    """What is wrong with the gradients of a chosen plan, of (ranks, sequences) of each group."""
    sequences = sequences_of(seq_lens, seed=3)
    expected = of_one_process(whole_model(name), sequences)
    model = whole_model(name)
    if checkpointing:
        model.gradient_checkpointing_enable()
    found = of_plan(sharded(model), plan_of(micro_batches, seq_lens), sequences)
    return faults_of(expected, found, f"{micro_batches}")


def of_strategies(
    name: str, seq_lens: list[int], micro_batches: list[list[GroupPlan]], recomputed: str = "never"
) -> tuple[list[str], int]:
    """What is wrong with the gradients of groups of given strategies, and bytes on the host."""
    sequences = sequences_of(seq_lens, seed=8)
    expected = of_one_process(whole_model(name), sequences)
    model = recomputing(whole_model(name), recomputed)
    plan = plan_of(micro_batches, seq_lens)
    cp = ContextParallel(GivenPlan(plan), sharded(model), mesh())
    found = of_step(cp, model, sequences)
    gradients = {
        name.replace("_checkpoint_wrapped_module.", ""): gradient
        for name, gradient in found[1].items()
    }
    found = (found[0], gradients, found[2])
    cp.close()
    faults = faults_of(expected, found, f"{micro_batches}")
    if cp._host_meter.bytes != 0:
        faults.append(f"{cp._host_meter.bytes} bytes are left on the host")
    return faults, cp.peak_host_bytes


def recomputing(model: Any, how: str) -> Any:
    """The model, whose layers the user lets be recomputed."""
    if how == "by transformers":
        model.gradient_checkpointing_enable()
    elif how == "by PyTorch":
        for index, layer in enumerate(model.model.layers):
            model.model.layers[index] = checkpoint_wrapper(layer)
    return model


def of_few_heads(seq_lens: list[int], micro_batches: list[list[GroupPlan]]) -> list[str]:
    """What is wrong with the gradients of a model with two query heads and one for keys."""
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1}
    sequences = sequences_of(seq_lens, seed=9)
    expected = of_one_process(whole_model("llama", **sizes), sequences)
    found = of_plan(
        sharded(whole_model("llama", **sizes)), plan_of(micro_batches, seq_lens), sequences
    )
    return faults_of(expected, found, f"{micro_batches}")


def forwards_of_layers(recomputed: str) -> dict[str, int]:
    """How often the layers of a model run in a step, by what a plan does with activations."""
    found: dict[str, int] = {}
    for activations in ("keep", "recompute", "host"):
        model = recomputing(whole_model("llama"), recomputed)
        counted: list[Any] = []
        for module in model.modules():
            if type(module).__name__ == "LlamaMLP":
                module.register_forward_pre_hook(
                    lambda mlp, _, counted=counted: counted.append(mlp)
                )
        ranks = list(range(dist.get_world_size()))
        plan = plan_of([[GroupPlan(ranks, [0], activations=activations)]], [12])
        of_plan(sharded(model), plan, sequences_of([12], seed=1))
        found[activations] = len(counted) // 2
    return found


def blocks_of_a_ring(ring: int) -> dict[str, int]:
    """The most blocks, and blocks of gradients, that a rank has at a time, and their sizes."""
    model = sharded(whole_model("llama"))
    live: dict[str, int] = {"blocks": 0, "gradients": 0}
    found = {"blocks": 0, "gradients": 0, "largest": 0}
    kinds: dict[int, str] = {}

    def noted(block: _ring.Block, kind: str) -> _ring.Block:
        live[kind] += 1
        kinds[id(block)] = kind
        found[kind] = max(found[kind], live[kind])
        found["largest"] = max(found["largest"], block.flat.numel())

        def forget() -> None:
            live[kind] -= 1

        weakref.finalize(block.flat, forget)
        return block

    block_of, zeros, empty = _ring.Block.of, _ring.Block.zeros, _ring.Block.empty
    patch = mock.patch.object
    with (
        patch(_ring.Block, "of", lambda k, v: noted(block_of(k, v), "blocks")),
        patch(_ring.Block, "zeros", lambda k, v: noted(zeros(k, v), "gradients")),
        patch(_ring.Block, "empty", lambda self, n: noted(empty(self, n), kinds[id(self)])),
    ):
        seq_lens = [40, 3]
        plan = plan_of([[GroupPlan(list(range(ring)), [0, 1], ring)]], seq_lens)
        of_plan(model, plan, sequences_of(seq_lens, seed=2))
    most = max(Places(seq_lens, ring).num_tokens)
    return {**found, "share": most * 2 * 3 * 8, "left": live["blocks"] + live["gradients"]}


def hybrid(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong where two ranks share the parameters and two such pairs have copies."""
    sequences = sequences_of(seq_lens, seed=4)
    expected = of_one_process(whole_model("llama"), sequences)
    ranks = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
    model = sharded(whole_model("llama"), ranks)
    found = of_plan(model, plan_of(micro_batches, seq_lens), sequences, ranks)
    return faults_of(expected, found, "hybrid sharding")


def reduced_at_the_end(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong where gradients are reduced after the last micro-batch only."""
    sequences = sequences_of(seq_lens, seed=4)
    expected = of_one_process(whole_model("qwen3"), sequences)
    model = sharded(whole_model("qwen3"))
    plan = plan_of(micro_batches, seq_lens)
    found = of_plan(model, plan, sequences, is_reduced_at_the_end=True)
    return faults_of(expected, found, "reduced at the end")


def embeddings_apart(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong where embeddings and head are sharded by themselves, as torchtitan does."""
    sequences = sequences_of(seq_lens, seed=7)
    expected = of_one_process(whole_model("llama"), sequences)
    model = whole_model("llama")
    fully_shard(model.model.embed_tokens, mesh=mesh())
    fully_shard([model.model.norm, model.lm_head], mesh=mesh())
    found = of_plan(sharded(model), plan_of(micro_batches, seq_lens), sequences)
    return faults_of(expected, found, "embeddings apart")


def own_logits(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong where the loss is that of logits which the model has returned."""
    sequences = sequences_of(seq_lens, seed=6)
    expected = of_one_process(whole_model("llama-tied"), sequences)
    model = sharded(whole_model("llama-tied"))
    found = of_plan(model, plan_of(micro_batches, seq_lens), sequences, has_own_logits=True)
    return faults_of(expected, found, "own logits")


def mixed_precision_errors(
    name: str, seq_lens: list[int], micro_batches: list[Any]
) -> tuple[float, float]:
    """Errors in bfloat16, of one process and of a plan, relative to the float32 gradient."""
    sequences = sequences_of(seq_lens, seed=3)
    exact = of_one_process(whole_model(name), sequences)[1]
    alone = of_one_process(whole_model(name).to(torch.bfloat16), sequences)[1]
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = sharded(whole_model(name), mp_policy=policy)
    planned = of_plan(model, plan_of(micro_batches, seq_lens), sequences)[1]

    def error(gradients: Any) -> float:
        squares = [
            ((gradients[name].double() - exact[name].double()).square().sum()) for name in exact
        ]
        norm = sum(gradient.double().square().sum() for gradient in exact.values())
        return float((sum(squares) / norm) ** 0.5)

    return error(alone), error(planned)


def drawn(name: str, seeds: range) -> list[str]:
    """What is wrong with the gradients of random plans."""
    faults: list[str] = []
    model = sharded(whole_model(name))
    for seed in seeds:
        step = random_step(
            random.Random(seed),
            num_ranks=dist.get_world_size(),
            num_heads=6,
            vocab=VOCAB,
            max_seq_len=40,
        )
        expected = of_one_process(whole_model(name), step.sequences)
        faults += faults_of(expected, of_plan(model, step.plan, step.sequences), f"seed {seed}")
    return faults


def sent_bytes(
    sizes: dict[str, Any], seq_lens: list[int], micro_batches: list[Any]
) -> tuple[int, list[str]]:
    """The bytes that this rank sends in a step of a model of these sizes."""
    model = sharded(whole_model("llama", **sizes))
    sequences = sequences_of(seq_lens, seed=5)
    found = of_plan(model, plan_of(micro_batches, seq_lens), sequences)
    return found[2], faults_of(of_one_process(whole_model("llama", **sizes), sequences), found, "")
