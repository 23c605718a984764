"""The command that comes with the package."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import lengthwise as lw

COMMAND = [sys.executable, "-m", "lengthwise"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


def test_the_command_is_the_whole_one() -> None:
    told = run("--help")
    assert told.returncode == 0
    for subcommand in ["bench", "compare", "plan", "profile", "report", "simulate", "train"]:
        assert subcommand in told.stdout
    assert run("--version").stdout == f"lengthwise {lw.__version__}\n"


def test_bad_input_is_exit_code_2() -> None:
    told = run("plan", "--lengths", "missing.txt", "--profile", "missing.toml")
    assert told.returncode == 2
    assert told.stderr == (
        "error: lengths missing.txt can't be read: No such file or directory (os error 2)\n"
    )


def test_the_script_is_there() -> None:
    script = Path(sysconfig.get_path("scripts")) / "lengthwise"
    told = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("lengthwise ")


def test_a_closed_pipe_is_no_error(profile_path: Path) -> None:
    command = [*COMMAND, "plan", "--lengths", "-", "--profile", str(profile_path), "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"\n".join(b"500" for _ in range(5000)))
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_ctrl_c_ends_it(profile_path: Path) -> None:
    command = [*COMMAND, "plan", "--lengths", "-", "--profile", str(profile_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    # It waits for lengths.
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(timeout=10) == -signal.SIGINT
    finally:
        process.kill()
        if process.stdin is not None:
            process.stdin.close()
