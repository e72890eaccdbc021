"""`docs/getting-started.md`, executed as it stands: every block, in one shell, against what the page shows."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(1000), pytest.mark.slow]
TIME_S_MAX = 900
"""A minute on an idle machine; twenty starts of Python on a busy one."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "getting-started.md"
BLOCK = re.compile(r"```(sh|text)\n(.*?)```", re.DOTALL)


def matches(line: str, shown: str) -> bool:
    """Whether the parts of a line of the page, between its `…`, stand in a line of the output in this order."""
    return re.search(r".*".join(re.escape(" ".join(part.split())) for part in line.split("…")), shown) is not None


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """A first hour with the product must not begin with an error."""
    blocks = [(kind, text) for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]
    commands = [text for kind, text in blocks if kind == "sh"]
    script = "".join(f"echo '<<<{number}'\n{{\n{text}}} 2>&1\n" for number, text in enumerate(commands))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PSTN_")}
    with (tmp_path / "stdout").open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=env | {"PATH": path, "COLUMNS": "200"},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            shell.wait(TIME_S_MAX)
        finally:  # the shell's jobs are of its group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    said = (tmp_path / "stdout").read_text()
    outputs = re.split(r"<<<\d+\n", said)[1:]
    assert len(outputs) == len(commands), said
    number = -1
    for kind, text in blocks:
        if kind == "sh":
            number += 1
            continue
        shown = [" ".join(re.sub(r"[│┃]", " ", line).split()) for line in outputs[number].splitlines()]
        for line in text.splitlines():
            while shown and not matches(line, shown[0]):
                shown.pop(0)
            assert shown, f"after {commands[number]!r} the line {line!r} does not come:\n{outputs[number]}"
            shown.pop(0)
    assert "Traceback" not in said
