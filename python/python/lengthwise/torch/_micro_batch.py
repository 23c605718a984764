"""What one rank runs of a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lengthwise.torch._activations import KEEP
from lengthwise.torch._shards import GroupShare


@dataclass(frozen=True)
class MicroBatch:
    """A rank's tokens of a micro-batch.

    A rank that has none runs one token without weight, so that all ranks make the same collective
    calls.

    Attributes
    ----------
    index : int
        The place of the micro-batch in its step.
    input_ids : Tensor
        ``[1, tokens]``.
    position_ids : Tensor
        ``[1, tokens]``: the place of each token in its own sequence.
    targets : Tensor
        ``[tokens]``: what each token has to predict, or -100. They are shifted already.
    num_step_labels : int
        How many tokens of the whole step, on all ranks and in all micro-batches, have a label.
    share : GroupShare
        The group, and what this rank has of it.
    is_idle : bool
        Whether the plan has no work for this rank.
    activations : str
        What is done with activations: "keep", "recompute" or "host".
    """

    index: int
    input_ids: Tensor
    position_ids: Tensor
    targets: Tensor
    num_step_labels: int
    share: GroupShare
    is_idle: bool
    activations: str = KEEP

    @property
    def num_tokens(self) -> int:
        """How many tokens of the step this rank has; 0 if it runs a weightless one."""
        return 0 if self.is_idle else self.share.num_own_tokens

    @property
    def loss_divisor(self) -> int:
        """What summed token losses are divided by: a step without any label has the loss 0."""
        return max(1, self.num_step_labels)
