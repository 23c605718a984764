"""The attention that models of transformers call by the name ``lengthwise``."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lengthwise.errors import InputError
from lengthwise.torch._exchange import Exchange
from lengthwise.torch._host_inputs import HostInputs
from lengthwise.torch._kernels import PackedAttention
from lengthwise.torch._shards import GroupShare

#: The name of the attention, as `set_attn_implementation` of a model takes it.
NAME = "lengthwise"

#: The keyword by which a micro-batch reaches layers and their attention: models pass on those they
#: don't know, also where layers are recomputed in the backward.
KEYWORD = "lengthwise_work"


@dataclass(frozen=True)
class MicroBatchWork:
    """What the layers of a rank need to know of a micro-batch, and its name for errors."""

    share: GroupShare
    exchange: Exchange
    micro_batch: str
    activations: str
    host_inputs: HostInputs


def register() -> None:
    """Give the attention its name. No mask function is registered, so models build no mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention of this rank's tokens to all earlier ones of their sequences.

    Parameters
    ----------
    module : Module
        The layer that asks.
    query, key, value : Tensor
        ``[1, heads, rows, head_dim]``, ``[1, kv_heads, rows, head_dim]`` twice.
    attention_mask : None
        Sequences are causal and see themselves alone; nothing else can be asked for.
    scaling : float, optional
        The factor on the scores.
    dropout : float
        Must be 0.
    sliding_window : int, optional
        How many tokens each token sees, itself included.

    Returns
    -------
    tuple of Tensor and None
        ``[1, rows, heads, head_dim]``.
    """
    work = options.get(KEYWORD)
    layer = type(module).__name__
    if work is None:
        msg = f"{layer} was called outside of ContextParallel.loss; its attention is that of groups"
        hint = "model.set_attn_implementation('sdpa') brings the attention of transformers back"
        raise InputError(msg, hint=hint)
    _refuse(layer, module, query, attention_mask, dropout, options)
    longest = max(work.share.seq_lens)
    # A window that no sequence is longer than is none, and takes no mask.
    is_windowed = sliding_window is not None and sliding_window < longest
    kernel = PackedAttention(work.share.seq_lens, scaling, sliding_window if is_windowed else None)
    attended = work.exchange.attend(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        work.share,
        kernel,
        f"layer {getattr(module, 'layer_idx', layer)} of {work.micro_batch}",
    )
    return attended[None], None


def _refuse(
    layer: str,
    module: nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    options: dict[str, Any],
) -> None:
    is_causal = options.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    asked = (
        ("a mask", attention_mask is not None),
        ("dropout", dropout != 0.0),
        ("attention to later tokens", not is_causal),
        ("a soft cap", options.get("softcap") is not None),
        ("attention sinks", options.get("s_aux") is not None),
        ("a bias of positions", options.get("position_bias") is not None),
        ("a batch of more than one row", query.shape[0] != 1),
    )
    for what, is_asked in asked:
        if is_asked:
            msg = f"{layer} asks for {what}, which attention of groups doesn't have"
            raise InputError(msg)
