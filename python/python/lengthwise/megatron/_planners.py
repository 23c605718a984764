"""Planners for the sizes that Megatron-Core's scheduler is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise._lengthwise import Planner, Rules
from lengthwise.errors import RuleError

if TYPE_CHECKING:
    from lengthwise._lengthwise import Plan


@dataclass(frozen=True)
class Sizes:
    """What Megatron-Core's scheduler is told when it is made."""

    num_ranks: int
    max_tokens_per_rank: int
    min_degree: int
    micro_batches_multiple_of: int
    max_sequences_per_group: int | None

    def rules(self, any_size: bool) -> Rules:
        """Return what plans have to keep so that Megatron-Core can run them."""
        return Rules(
            no_idle_ranks=True,
            aligned_powers_of_two=not any_size,
            min_degree=self.min_degree,
            max_tokens_per_rank=self.max_tokens_per_rank,
            tokens_replace_memory=True,
            micro_batches_multiple_of=self.micro_batches_multiple_of,
            max_sequences_per_group=self.max_sequences_per_group,
        )

    def group_sizes(self) -> frozenset[int]:
        """Return the sizes of groups that Megatron-Core creates communicators for.

        They are all ranks, and powers of two below. Where the number of ranks is no power of two,
        the largest power below it is not among them.
        """
        below = (1 << exponent for exponent in range(self.num_ranks.bit_length() - 1))
        return frozenset({self.num_ranks, *below})


class Planners:
    """One planner for each set of sizes.

    Schedulers may be made anew for every batch; costs need not.

    Parameters
    ----------
    any_size : bool
        Whether groups may have any size.
    costs : dict
        Keyword arguments of `Planner` but for the number of devices and the rules.
    """

    def __init__(self, any_size: bool, costs: dict[str, Any]) -> None:
        self.any_size = any_size
        self._costs = costs
        self._by_sizes: dict[Sizes, Planner] = {}
        # What is wrong with the costs is said at once rather than at the first batch.
        Planner(**costs)

    def plan(self, sizes: Sizes, lengths: list[int]) -> Plan:
        """Plan one global batch: the same lengths give the same plan in every process."""
        planner = self._by_sizes.get(sizes)
        if planner is None:
            planner = self._by_sizes[sizes] = self._planner(sizes)
        return planner.plan(lengths)

    def _planner(self, sizes: Sizes) -> Planner:
        devices_per_rank = self._costs.get("tensor_parallel", 1) * self._costs.get(
            "pipeline_parallel", 1
        )
        costs: dict[str, Any] = {
            # No sequence is longer than what all ranks hold.
            "context": sizes.max_tokens_per_rank * sizes.num_ranks,
            **self._costs,
            "devices": sizes.num_ranks * devices_per_rank,
            "rules": sizes.rules(self.any_size),
        }
        planner = Planner(**costs)
        if self.any_size:
            return planner
        degrees = sizes.group_sizes().intersection(planner.degrees)
        if not degrees:
            possible = ", ".join(map(str, planner.degrees)) or "no size that the settings allow"
            msg = (
                f"Megatron-Core has groups of {sorted(sizes.group_sizes())} ranks for "
                f"{sizes.num_ranks}, and the costs know groups of {possible}"
            )
            raise RuleError(msg)
        costs["degrees"] = sorted(degrees)
        return Planner(**costs)
