"""Fine-tune a causal language model of transformers on documents of wildly uneven length.

    torchrun --nproc-per-node 8 finetune.py --model llama-3.1-8b --data books.jsonl \
        --tokens 4M --context 128k --steps 1000 --checkpoint run --export tuned

The same script runs on CPUs, on one GPU and on many nodes. It goes on at the newest checkpoint, on
any number of ranks. It needs: pip install 'lengthwise[torch]' datasets
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer

import lengthwise as lw
import lengthwise.torch

FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SIZES = {"": 1, "k": 10**3, "M": 10**6}


def read_arguments() -> argparse.Namespace:
    """Read the command line, and refuse what can be seen to be wrong before work starts."""

    def model(text: str) -> Path:
        if not (Path(text) / "config.json").is_file():
            raise argparse.ArgumentTypeError(f"{text} has no config.json")
        return Path(text)

    def data(text: str) -> Path:
        if Path(text).suffix not in FORMATS:
            raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(FORMATS)}")
        if not Path(text).is_file():
            raise argparse.ArgumentTypeError(f"there is no file {text}")
        if Path(text).stat().st_size == 0:
            raise argparse.ArgumentTypeError(f"{text} is empty")
        return Path(text)

    def tokens(text: str) -> int:
        match = re.fullmatch(r"([1-9][0-9]*)([kM]?)", text)
        if not match:
            raise argparse.ArgumentTypeError(f"{text} is not a number such as 4096, 128k or 4M")
        return int(match[1]) * SIZES[match[2]]

    def planner(text: str) -> str:
        if not re.fullmatch(r"adaptive|static:[1-9][0-9]*|batch-adaptive|megatron", text):
            msg = f"{text} is none of adaptive, static:DEGREE, batch-adaptive and megatron"
            raise argparse.ArgumentTypeError(msg)
        return text

    def new(text: str) -> Path:
        if Path(text).exists():
            raise argparse.ArgumentTypeError(f"{text} exists")
        return Path(text)

    def directory(text: str) -> Path:
        try:
            Path(text).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{text} can't be a directory: {error.strerror}"
            raise argparse.ArgumentTypeError(msg) from None
        if not os.access(text, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text} can't be written to")
        return Path(text)

    parser = argparse.ArgumentParser(description="Fine-tune a model; to be started by torchrun.")
    add = parser.add_argument
    add("--model", type=model, required=True, help="a directory that save_pretrained has written")
    add("--data", type=data, nargs="+", required=True, help="columns text, messages or input_ids")
    add("--tokens", type=tokens, required=True, help="the most tokens of a step, as 4M")
    add("--context", type=tokens, required=True, help="the longest sequence, as 128k")
    add("--overlong", choices=["split", "truncate", "skip"], default="split")
    add("--steps", type=tokens)
    add("--epochs", type=tokens)
    add("--planner", type=planner, default="adaptive")
    add("--profile", type=Path, help="what sequences cost; measured and written if it is missing")
    add("--profile-seconds", type=float, default=60.0)
    add("--learning-rate", type=float, default=1e-5)
    add("--warmup", type=int, default=20, help="in steps")
    add("--clip", type=float, default=1.0, help="the largest norm of the gradient")
    add("--recompute", action="store_true", help="compute layers again in the backward")
    add("--checkpoint", type=directory, help="a directory of checkpoints")
    add("--checkpoint-every", type=tokens, default=100, help="in steps")
    add("--metrics", type=Path, help="a file for lengthwise report")
    add("--export", type=new, help="a directory for the tuned model")
    add("--seed", type=int, default=0)
    add("--processes", type=int, default=min(8, os.cpu_count() or 1), help="to tokenise by")
    arguments = parser.parse_args()
    if arguments.steps is None and arguments.epochs is None:
        parser.error("--steps or --epochs is needed")
    if len({FORMATS[path.suffix] for path in arguments.data}) > 1:
        parser.error("--data: all files must be of one format")
    if "WORLD_SIZE" not in os.environ:
        parser.error("start it by torchrun, on one rank too")
    if arguments.profile is None:
        arguments.profile = Path(f"profile-{os.environ['WORLD_SIZE']}-ranks.toml")
    return arguments


def begin_world() -> DeviceMesh:
    """Return a mesh of all ranks."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo")
    return init_device_mesh(kind, (dist.get_world_size(),))


def read_documents(arguments: argparse.Namespace, tokenizer: Any) -> datasets.Dataset:
    """Return the ids, labels and length of each document."""
    # One rank of each node tokenises, and the others find in the cache what it has written.
    patient = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    is_first_of_node = os.environ["LOCAL_RANK"] == "0"
    if not is_first_of_node:
        dist.barrier(patient)
    kind = FORMATS[arguments.data[0].suffix]
    paths = [str(path) for path in arguments.data]
    raw = datasets.load_dataset(kind, data_files=paths, split="train")
    documents = raw.map(
        tokenised,
        fn_kwargs={"tokenizer": tokenizer},
        remove_columns=raw.column_names,
        num_proc=min(arguments.processes, len(raw)) if arguments.processes > 1 else None,
    )
    if is_first_of_node:
        dist.barrier(patient)
    return documents


def tokenised(document: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return the ids of a document, the labels (-100: not to be learnt) and the length."""
    # A column that a document does not have, and others do, is None.
    has = [name for name, value in document.items() if value is not None]
    if "input_ids" in has:
        ids = document["input_ids"]
        labels = document["labels"] if "labels" in has else ids
        if len(labels) != len(ids):
            raise ValueError(f"a document has {len(ids)} input_ids and {len(labels)} labels")
    elif "messages" in has:
        if len(document["messages"]) < 2:
            raise ValueError("messages are a question and an answer at least")
        # The last message is the answer to all before it.
        question, render = document["messages"][:-1], tokenizer.apply_chat_template
        asked = render(question, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = render(document["messages"], return_dict=True)["input_ids"]
        if ids[: len(asked)] != asked:
            raise ValueError("the chat template changes the question where there is an answer")
        labels = [-100] * len(asked) + ids[len(asked) :]
    elif "text" in has:
        ids = tokenizer(document["text"])["input_ids"]
        if tokenizer.eos_token_id not in (None, *ids[-1:]):
            ids = [*ids, tokenizer.eos_token_id]
        labels = ids
    else:
        raise ValueError(f"no text, messages or input_ids among {', '.join(has)}")
    return {"input_ids": ids, "labels": labels, "length": len(ids)}


def sharded_model(arguments: argparse.Namespace, mesh: DeviceMesh) -> Any:
    """Return the model: float32 in shards, computed in bfloat16 on GPUs."""
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).train()
    if arguments.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = MixedPrecisionPolicy()
    if mesh.device_type == "cuda":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def read_or_measure_profile(
    arguments: argparse.Namespace, model: Any, mesh: DeviceMesh
) -> lw.Profile:
    """Return what sequences cost on these ranks."""
    is_there = [arguments.profile.exists()]
    dist.broadcast_object_list(is_there, src=0)
    if is_there[0]:
        return lw.Profile.read(arguments.profile)
    profile = lw.torch.profile(
        model, mesh, context=arguments.context, time_budget=arguments.profile_seconds
    )
    if mesh.get_rank() == 0:
        profile.save(arguments.profile)
    return profile


def rate(num_done: int, num_steps: int, num_warmup: int) -> float:
    """Return the share of the learning rate: a rise, then half a cosine."""
    if num_done < num_warmup:
        return (num_done + 1) / (num_warmup + 1)
    share = (num_done - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


class Checkpoints:
    """The newest two checkpoints of a directory. One that is called step-N is complete."""

    def __init__(self, directory: Path, model: Any, optimizer: Any, schedule: Any, cp: Any) -> None:
        self.directory, self.model, self.optimizer = directory, model, optimizer
        # Where to go on in the data is part of the state of cp.
        self.others = {"schedule": schedule, "cp": cp}

    def load_newest(self) -> None:
        """Go on at the newest one, if there is one."""
        newest = [self._paths()[-1:]]
        dist.broadcast_object_list(newest, src=0)
        for path in newest[0]:
            model, optimizer = get_state_dict(self.model, self.optimizer)
            dcp.load({"model": model, "optimizer": optimizer, **self.others}, checkpoint_id=path)
            set_state_dict(
                self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer
            )

    def save(self, num_steps: int) -> None:
        """Write one; it gets its name once all of it is there."""
        unfinished = self.directory / "unfinished"
        if dist.get_rank() == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        dist.barrier()
        model, optimizer = get_state_dict(self.model, self.optimizer)
        dcp.save({"model": model, "optimizer": optimizer, **self.others}, checkpoint_id=unfinished)
        if dist.get_rank() == 0:
            unfinished.rename(self.directory / f"step-{num_steps}")
            for old in self._paths()[:-2]:
                shutil.rmtree(old)

    def _paths(self) -> list[Path]:
        complete = [path for path in self.directory.glob("step-*") if path.name[5:].isdecimal()]
        return sorted(complete, key=lambda path: int(path.name[5:]))


def export(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write the whole model as from_pretrained reads it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = get_model_state_dict(model, options=options)
    if dist.get_rank() == 0:
        model.save_pretrained(directory, state_dict=whole)
        tokenizer.save_pretrained(directory)


def main() -> None:
    """Train."""
    arguments = read_arguments()
    mesh = begin_world()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    documents = read_documents(arguments, tokenizer)
    model = sharded_model(arguments, mesh)
    profile = read_or_measure_profile(arguments, model, mesh)
    planner = lw.Planner(
        profile=profile,
        devices=mesh.size(),
        context=arguments.context,
        planner=arguments.planner,
    )
    cp = lw.torch.ContextParallel(planner, model, mesh, metrics=arguments.metrics)
    batches = cp.batches(
        documents,
        tokens=arguments.tokens,
        overlong=arguments.overlong,
        seed=arguments.seed,
        epochs=arguments.epochs,
        steps=arguments.steps,
    )
    num_steps = len(batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda num_done: rate(num_done, num_steps, arguments.warmup)
    )
    checkpoints = None
    if arguments.checkpoint is not None:
        checkpoints = Checkpoints(arguments.checkpoint, model, optimizer, schedule, cp)
        checkpoints.load_newest()

    for step in batches:
        loss = torch.zeros((), device=mesh.device_type)
        for micro_batch in step:
            part = cp.loss(model, micro_batch)
            part.backward()
            loss += part.detach()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.clip)
        step.record(gradient_norm=norm, learning_rate=schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        dist.all_reduce(loss)
        if dist.get_rank() == 0:
            print(f"step {batches.num_steps} of {num_steps}: loss {loss:.6f}", flush=True)
        is_last = batches.num_steps == num_steps
        if checkpoints and (is_last or batches.num_steps % arguments.checkpoint_every == 0):
            checkpoints.save(batches.num_steps)

    if arguments.export is not None:
        export(model, tokenizer, arguments.export)
    cp.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
