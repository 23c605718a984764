"""The lines of README.md and docs/python.md do what these say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
README = ROOT / "README.md"

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def test_the_page_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    names: dict[str, Any] = {}
    num_blocks = 0
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 2
        code, expected = block.groups(default="")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # So that a traceback shows the line of the page.
            exec(compile("\n" * (line - 1) + code, str(PAGE), "exec"), names)
        assert printed.getvalue() == expected, f"docs/python.md, line {line}"
        num_blocks += 1
    assert num_blocks == text.count("```python")
    assert (tmp_path / "plan.svg").exists()


def test_the_readme_plans(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = BLOCK.findall(README.read_text())
    exec(compile(block[0], str(README), "exec"), {})
    step_s, gap, *work = capsys.readouterr().out.split(maxsplit=2)
    assert float(step_s) > 0
    assert 0 <= float(gap) < 0.01
    assert work
