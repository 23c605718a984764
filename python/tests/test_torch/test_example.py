"""The script that users begin with, started by torchrun as they start it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("datasets")

import tiny

import lengthwise as lw

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune.py"

#: Without an end for this long, a run has hung.
TIMEOUT_S = 120

NUM_STEPS = 12

COSTS = Path(__file__).parent / "tiny_costs.toml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model and documents."""
    directory = tmp_path_factory.mktemp("example")
    tiny.save_model(directory / "model")
    tiny.write_lines(directory / "data.jsonl", [{"text": text} for text in tiny.texts(60)])
    return directory


def start(place: Path, num_ranks: int, *words: Any) -> subprocess.Popen[str]:
    """Start the script on some ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", num_ranks]
    # A free port, for other runs may be under way.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", SCRIPT]
    command += ["--model", place / "model", "--tokens", 300, "--context", 120]
    command += ["--learning-rate", "3e-3", "--warmup", 2, "--processes", 1, *words]
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=place,
        env={
            **os.environ,
            # Those of this process may be relative to its own directory.
            "PYTHONPATH": str(Path(lw.__file__).parents[1]),
            "HF_HOME": str(place / "cache"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ranks_of(run: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started."""
    tasks = Path("/proc", str(run.pid), "task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    """How a run ended, and what it said."""
    try:
        said = run.communicate(timeout=TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        # It ends its ranks.
        run.terminate()
        raise
    return run.returncode, said


def losses(said: str) -> dict[int, float]:
    """The loss of each step."""
    found = re.findall(r"^step (\d+) of \d+: loss ([0-9.]+)$", said, re.MULTILINE)
    return {int(step): float(loss) for step, loss in found}


def training(place: Path, checkpoint: str, *words: Any) -> list[Any]:
    """What is said of a run of a few steps."""
    data = ["--data", place / "data.jsonl", "--steps", NUM_STEPS]
    return [*data, "--checkpoint", place / checkpoint, "--checkpoint-every", 4, *words]


def assert_is_last(exported: Path, losses_by_step: dict[int, float]) -> None:
    """The exported model has learnt what the run has learnt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(exported)
    assert type(model).__name__ == "LlamaForCausalLM"
    ids = AutoTokenizer.from_pretrained(exported)(tiny.texts(60)[0], return_tensors="pt").input_ids
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert loss < 0.5 * (losses_by_step[1] + losses_by_step[NUM_STEPS])


def test_a_run_that_is_killed_goes_on_with_other_ranks(place: Path) -> None:
    words = training(place, "whole", "--export", "tuned", "--metrics", "metrics.jsonl")
    # On these ranks nothing was measured so far.
    words += ["--profile-seconds", 2]
    code, said = ended(start(place, 3, *words))
    assert code == 0, said
    uninterrupted = losses(said)
    assert list(uninterrupted) == list(range(1, NUM_STEPS + 1))
    assert uninterrupted[NUM_STEPS] < uninterrupted[1]
    kept = sorted(path.name for path in (place / "whole").iterdir())
    assert kept == [f"step-{NUM_STEPS}", "step-8"]

    assert_is_last(place / "tuned", uninterrupted)
    assert lw.Profile.read(place / "profile-3-ranks.toml").context == 120
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == pytest.approx(list(uninterrupted.values()), rel=1e-4)
    assert all(line["gradient_norm"] > 0.0 for line in lines)
    command = [sys.executable, "-m", "lengthwise", "report", place / "metrics.jsonl"]
    subprocess.run([*command, "-o", place / "report.html"], check=True, timeout=60)
    assert "<html" in (place / "report.html").read_text()

    words = training(place, "killed", "--profile", COSTS)
    run = start(place, 3, *words)
    until = time.monotonic() + TIMEOUT_S
    while not (place / "killed" / "step-4").exists() and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(ranks_of(run)[-1], signal.SIGKILL)
    code, said = ended(run)
    assert code != 0
    before = losses(said)
    assert 4 <= len(before) < NUM_STEPS
    code, said = ended(start(place, 2, *words))
    assert code == 0, said
    resumed = losses(said)
    assert list(resumed) == list(range(min(resumed), NUM_STEPS + 1))
    assert min(resumed) in (5, 9)
    assert before == pytest.approx({step: uninterrupted[step] for step in before}, rel=1e-4)
    assert resumed == pytest.approx({step: uninterrupted[step] for step in resumed}, rel=1e-4)


@pytest.fixture(scope="module")
def script() -> Any:
    """The script as a module."""
    spec = util.spec_from_file_location("finetune", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_answers_are_learnt_of_messages(place: Path, script: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    messages = [
        {"role": "user", "content": "word1 word2"},
        {"role": "assistant", "content": "word3"},
    ]
    found = script.tokenised({"messages": messages}, tokenizer)
    texts = tokenizer.convert_ids_to_tokens(found["input_ids"])
    assert texts == ["user", ":", "word1", "word2", "</s>", "assistant", ":", "word3", "</s>"]
    learnt = [text for text, label in zip(texts, found["labels"], strict=True) if label != -100]
    assert learnt == ["word3", "</s>"]
    assert found["length"] == 9
    ended = script.tokenised({"text": "word1"}, tokenizer)
    assert tokenizer.decode(ended["input_ids"]) == "word1 </s>"
    assert ended["labels"] == ended["input_ids"]
    ready = {"input_ids": [3, 4], "labels": [-100, 4]}
    assert script.tokenised(ready, tokenizer) == {**ready, "length": 2}
    without_labels = {"input_ids": [3, 4], "labels": None}
    assert script.tokenised(without_labels, tokenizer)["labels"] == [3, 4]
    with pytest.raises(ValueError, match="no text, messages or input_ids among title"):
        script.tokenised({"title": "word1", "text": None}, tokenizer)
    with pytest.raises(ValueError, match="2 input_ids and 0 labels"):
        script.tokenised({"input_ids": [3, 4], "labels": []}, tokenizer)
    with pytest.raises(ValueError, match="a question and an answer"):
        script.tokenised({"messages": messages[:1]}, tokenizer)
    # A template that leaves out of a question what it had as an answer.
    tokenizer.chat_template = "{{ messages | length }} {{ messages[-1]['content'] }}"
    with pytest.raises(ValueError, match="the chat template changes the question"):
        script.tokenised({"messages": messages}, tokenizer)


def test_only_complete_checkpoints_are_gone_on_from(script: Any, tmp_path: Path) -> None:
    for name in ("step-9", "step-10", "step-old", "unfinished"):
        (tmp_path / name).mkdir()
    nothing: Any = None
    found = script.Checkpoints(tmp_path, nothing, nothing, nothing, nothing)._paths()
    assert [path.name for path in found] == ["step-9", "step-10"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"--model": "nowhere"}, "nowhere has no config.json"),
        ({"--data": "nothing.jsonl"}, "there is no file nothing.jsonl"),
        ({"--data": "data.txt"}, "data.txt is none of .json, .jsonl, .parquet"),
        ({"--tokens": "some"}, "some is not a number such as 4096, 128k or 4M"),
        ({"--context": "0"}, "0 is not a number such as"),
        ({"--planner": "static"}, "static is none of adaptive, static:DEGREE"),
        ({"--export": "model"}, "model exists"),
        ({"--data": "empty.jsonl"}, "empty.jsonl is empty"),
        ({"--checkpoint": "data.jsonl"}, "data.jsonl can't be a directory: File exists"),
        ({"--steps": None}, "--steps or --epochs is needed"),
    ],
)
def test_what_cannot_be_run_is_refused_before_work_starts(
    place: Path,
    script: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: dict[str, str | None],
    said: str,
) -> None:
    monkeypatch.chdir(place)
    (place / "empty.jsonl").touch()
    monkeypatch.setenv("WORLD_SIZE", "1")
    given: dict[str, str | None] = {
        "--model": "model",
        "--data": "data.jsonl",
        "--tokens": "4k",
        "--context": "1k",
        "--steps": "3",
    }
    pairs = [(name, value) for name, value in {**given, **words}.items() if value is not None]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *(word for pair in pairs for word in pair)])
    with pytest.raises(SystemExit):
        script.read_arguments()
    assert said in capsys.readouterr().err
