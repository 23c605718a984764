"""The class that stands in the place of Megatron-Core's scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lengthwise.errors import InputError, RuleError
from lengthwise.megatron._planners import Planners, Sizes
from lengthwise.megatron._rank_lists import rank_lists


def scheduler_class(base: Any, planners: Planners, module: Any) -> type[Any]:
    """Return a subclass of Megatron-Core's scheduler whose decisions are plans of Lengthwise.

    Parameters
    ----------
    base : type
        ``DefaultDynamicCPScheduler``.
    planners : Planners
        Who plans.
    module : module
        Where `base` is from.
    """

    def get_groups_and_subsamples(
        self: Any, sample_id_seqlens: Sequence[tuple[Any, int]]
    ) -> list[list[list[Any]]]:
        """Return for every micro-batch, for every DPxCP rank, the ids of its samples."""
        samples = list(sample_id_seqlens)
        if not samples:
            return []
        sizes = _sizes(self)
        _check_longest(samples, sizes)
        plan = planners.plan(sizes, [int(seq_len) for _, seq_len in samples])
        return rank_lists(plan, [sample for sample, _ in samples], sizes.num_ranks)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Schedule a global batch and route its samples, as the base class does."""
        config = kwargs["config"] if "config" in kwargs else args[-1]
        # Megatron-Core counts the dummy sequence that pads a pack only for its other scheduler.
        max_real_num_seqs = getattr(module, "_get_scheduler_max_real_num_seqs", None)
        if max_real_num_seqs is not None:
            self.max_num_seqs = max_real_num_seqs(config)
        return base.run(self, *args, **kwargs)

    members = {
        "__doc__": "``DefaultDynamicCPScheduler``, with plans of Lengthwise.",
        "__module__": __name__,
        "get_groups_and_subsamples": get_groups_and_subsamples,
        "run": run,
    }
    return type("LengthwiseDynamicCPScheduler", (base,), members)


def _check_longest(samples: list[tuple[Any, int]], sizes: Sizes) -> None:
    sample, seq_len = max(samples, key=lambda sample: sample[1])
    most = sizes.num_ranks * sizes.max_tokens_per_rank
    if seq_len > most:
        ranks = "1 rank holds" if sizes.num_ranks == 1 else f"{sizes.num_ranks} ranks hold"
        msg = (
            f"sample {sample!r} has {seq_len} tokens; {ranks} {most}, at "
            f"{sizes.max_tokens_per_rank} each"
        )
        hint = "raise max_seqlen_per_dp_cp_rank, or split or skip longer sequences"
        raise RuleError(msg, hint=hint)


def _sizes(scheduler: Any) -> Sizes:
    max_tokens = scheduler.max_seqlen_per_dp_cp_rank
    if max_tokens is None:
        msg = "max_seqlen_per_dp_cp_rank is None; plans need the most tokens of a rank"
        raise InputError(msg, hint="set it in the configuration of the model")
    return Sizes(
        num_ranks=scheduler.cp_size * scheduler.dp_size,
        max_tokens_per_rank=max_tokens,
        min_degree=scheduler.min_cp_size,
        micro_batches_multiple_of=scheduler.microbatch_group_size_per_vp_stage or 1,
        max_sequences_per_group=getattr(scheduler, "max_num_seqs", None),
    )
