"""Messages from rank to rank, over one process group of the whole world.

A group of ranks is a list; no communicator is made for it, and ranks outside make no call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from lengthwise.torch._exchange_clock import ExchangeClock
from lengthwise.torch._rank_failure import RankFailedError


class Messages:
    """Sends and receives flat tensors, and counts and times them.

    Parameters
    ----------
    process_group : ProcessGroup
        A group of all ranks, used for nothing else.
    """

    def __init__(self, process_group: dist.ProcessGroup) -> None:
        self.process_group = process_group
        self.bytes_sent = 0
        #: Bytes of a number that was sent last.
        self.element_bytes = 0
        #: Times what ranks wait for, where somebody asks for it.
        self.clock: ExchangeClock | None = None
        # Gloo sends from host memory only.
        self._is_staged = dist.get_backend(process_group) == "gloo"

    def swap(
        self,
        ranks: Iterable[int],
        outgoing: Mapping[int, Tensor],
        incoming: Mapping[int, Tensor],
        where: str,
    ) -> None:
        """Send a tensor to each rank in `outgoing`, and fill those from the ranks in `incoming`.

        Parameters
        ----------
        ranks : iterable of int
            All that take part, for errors.
        outgoing, incoming : mapping of int to Tensor
            By global rank. Empty ones are not sent.
        where : str
            The layer and the micro-batch, for errors.

        Raises
        ------
        RankFailedError
            Another rank is gone, or did not answer.
        """
        begun = None if self.clock is None else self.clock.begin()
        self.start(ranks, outgoing, incoming, where, tag=0).finish()
        if self.clock is not None:
            self.clock.end(begun)

    def start(
        self,
        ranks: Iterable[int],
        outgoing: Mapping[int, Tensor],
        incoming: Mapping[int, Tensor],
        where: str,
        *,
        tag: int,
    ) -> Pending:
        """Begin a `swap`; messages of other tags may be on their way at the same time."""
        operations: list[dist.P2POp] = []
        landed: list[tuple[Tensor, Tensor]] = []
        for peer, tensor in outgoing.items():
            if tensor.numel() == 0:
                continue
            wire = tensor.cpu() if self._is_staged else tensor
            self.element_bytes = wire.element_size()
            self.bytes_sent += wire.numel() * wire.element_size()
            operations.append(dist.P2POp(dist.isend, wire, peer, self.process_group, tag))
        for peer, tensor in incoming.items():
            if tensor.numel() == 0:
                continue
            is_elsewhere = self._is_staged and tensor.device.type != "cpu"
            wire = torch.empty_like(tensor, device="cpu") if is_elsewhere else tensor
            if is_elsewhere:
                landed.append((tensor, wire))
            operations.append(dist.P2POp(dist.irecv, wire, peer, self.process_group, tag))
        awaited = [f"rank {operation.peer}" for operation in operations]
        everybody = "ranks " + ", ".join(map(str, ranks))
        where = f"the exchange of {where}"
        try:
            works = dist.batch_isend_irecv(operations) if operations else []
        except RuntimeError as error:
            raise RankFailedError.of(error, f"{everybody} in {where}") from error
        # NCCL has one work for all of them.
        if len(works) != len(awaited):
            awaited = [everybody] * len(works)
        tensors = [operation.tensor for operation in operations]
        return Pending(self, list(zip(awaited, works, strict=True)), landed, where, tensors)


@dataclass
class Pending:
    """Messages that are on their way.

    Attributes
    ----------
    messages : Messages
        Who sends them.
    works : list
        Whom each is sent to or comes from, and what waits for it.
    landed : list
        What has to be copied from the host in the end.
    where : str
        For errors.
    tensors : list of Tensor
        What is sent and filled, which has to last until then.
    """

    messages: Messages
    works: list[tuple[str, dist.Work]]
    landed: list[tuple[Tensor, Tensor]]
    where: str
    tensors: list[Tensor]

    def wait(self) -> None:
        """Wait for all of them, and time the waiting.

        Raises
        ------
        RankFailedError
            Another rank is gone, or did not answer.
        """
        clock = self.messages.clock
        begun = None if clock is None else clock.begin()
        self.finish()
        if clock is not None:
            clock.end(begun)

    def finish(self) -> None:
        """Wait for all of them."""
        for awaited, work in self.works:
            try:
                work.wait()
            except RuntimeError as error:
                raise RankFailedError.of(error, f"{awaited} in {self.where}") from error
        for tensor, wire in self.landed:
            tensor.copy_(wire)
        # They, too, hold on to what was sent.
        self.works.clear()
        self.tensors.clear()
