"""How a command ends when nobody can read what it says, and when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

# A help page, a table, single lines, and what stays in a buffer to the end.
COMMANDS = [["report", "usage", "--help"], ["licences", "list"], ["policy", "list"], ["tables", "diff", "--help"]]


def run(arguments: list[str], stdout: int, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit code and standard error."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    told = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60, preexec_fn=before
    )
    return told.returncode, told.stderr


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_full_disk_behind_standard_output_is_one_line(arguments: list[str]) -> None:
    """It was a traceback of thirty."""
    full = os.open("/dev/full", os.O_WRONLY)
    told = run(arguments, full)
    os.close(full)
    message = "pstn: standard output: No space left on device: not all was written\n"
    assert told == (2, message)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_closed_standard_output_is_one_line(arguments: list[str]) -> None:
    told = run(arguments, subprocess.DEVNULL, partial(os.close, 1))
    assert told == (2, "pstn: standard output: it is closed: not all was written\n")


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_reader_that_has_enough_is_no_error(arguments: list[str]) -> None:
    """`| head -1` is how a person looks at something long; `set -o pipefail` took it for a failure."""
    reader, writer = os.pipe()
    os.close(reader)
    told = run(arguments, writer)
    os.close(writer)
    assert told == (0, "")


def test_a_terminal_without_a_character_gets_a_question_mark() -> None:
    """The bars of a chart are in no character set of the old."""
    script = "from pipeline import __main__; __main__.cli = lambda: print('a \u2588'); __main__.main()"
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True, timeout=60)
    assert told.stdout == b"a ?\n"


WRITES_A_FILE = """
import signal, sys, time
from pathlib import Path
from pipeline import __main__
from pipeline.cli.ending import end_at_once
from pipeline.warehouse.export_io import written_beside

def command():
    if "at-once" in sys.argv:
        end_at_once()
    with written_beside(Path(sys.argv[1])) as path:
        path.write_text("half")
        print("ready", flush=True)
        time.sleep(2 if "nohup" in sys.argv else 60)

# The tests themselves may run under nohup, and a child inherits what is ignored.
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
__main__.cli = command
__main__.main()
"""


def ended_by(number: signal.Signals, path: Path, *how: str) -> int:
    command = [sys.executable, "-c", WRITES_A_FILE, str(path), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        return process.wait(timeout=30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_told_to_end_leaves_no_half_file(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """As Ctrl-C leaves none: `.usage.parquet.4711.part` would stay for ever."""
    assert ended_by(number, tmp_path / "usage.csv") == code
    assert list(tmp_path.iterdir()) == []


def test_a_command_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    assert ended_by(signal.SIGHUP, tmp_path / "usage.csv", "nohup") == 0
    assert [each.name for each in tmp_path.iterdir()] == ["usage.csv"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_may_be_killed_at_any_moment_is(number: signal.Signals, tmp_path: Path) -> None:
    """A worker must not unwind in the middle of a transaction when its terminal goes."""
    assert ended_by(number, tmp_path / "usage.csv", "at-once") == -number
