"""The lines of docs/python.md do what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"

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
