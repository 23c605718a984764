"""Reads a checkpoint into DTensors over 2 and 3 ranks, and compares the weights with the exported model."""

import os
import socket
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, zeros


def read(rank, num_ranks, port, checkpoint, model):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=num_ranks)
    mesh = init_device_mesh("cpu", (num_ranks,))
    tensors = HuggingFaceStorageReader(checkpoint).read_metadata().state_dict_metadata
    # Sharded by rows and by columns in turn.
    state = {
        name: zeros(
            tuple(tensor.size),
            device_mesh=mesh,
            placements=[Shard(index % len(tensor.size))],
        )
        for index, (name, tensor) in enumerate(sorted(tensors.items()))
    }
    dcp.load(state, storage_reader=HuggingFaceStorageReader(checkpoint))
    state = {name: tensor.full_tensor() for name, tensor in state.items()}
    if rank == 0:
        weights = load_file(os.path.join(model, "model.safetensors"))
        moments = {f"state.{name}.{kind}" for name in weights for kind in ("exp_avg", "exp_avg_sq")}
        assert set(state) == set(weights) | moments, set(state) ^ (set(weights) | moments)
        for name, weight in weights.items():
            assert torch.equal(state[name], weight), name
            first, second = state[f"state.{name}.exp_avg"], state[f"state.{name}.exp_avg_sq"]
            assert first.shape == second.shape == weight.shape, name
            assert first.any() and (second >= 0).all() and second.any(), name
        print(f"{num_ranks} ranks: equal", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    for num_ranks in (2, 3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(read, (num_ranks, port, *sys.argv[1:]), num_ranks)
