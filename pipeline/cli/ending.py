"""How the process ends when it is told to, and when nobody can read what it says."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT = 1
_TOLD_TO_END = (signal.SIGTERM, signal.SIGHUP)


class OutputEnded(Exception):
    """Standard output takes no more, and why. No OSError: whoever handles those means the files of the command."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"standard output: {'it is closed' if error.errno == errno.EBADF else error.strerror}: not all was written"
        )
        self.is_readers_wish = error.errno == errno.EPIPE
        """The reader has enough, as `head` has."""


class _StandardOutput(io.FileIO):
    """Says once that it cannot be written; what is left in buffers by then goes nowhere."""

    def __init__(self) -> None:
        super().__init__(_STDOUT, "w", closefd=False)
        self._has_ended = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._has_ended:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._has_ended = True
            raise OutputEnded(error) from None


def standard_output() -> TextIO:
    """The process's own, which raises OutputEnded."""
    if sys.stdout is None:  # closed: its number must not become that of the next file
        os.dup2(os.open(os.devnull, os.O_RDONLY), _STDOUT)
    made = io.TextIOWrapper(io.BufferedWriter(_StandardOutput()), newline="")
    if isinstance(before := sys.stdout, io.TextIOWrapper):
        is_by_line = before.line_buffering or before.write_through  # the latter is PYTHONUNBUFFERED
        # A bar that a Latin-1 terminal does not have becomes a question mark.
        made.reconfigure(encoding=before.encoding, errors="replace", line_buffering=is_by_line)
    return made


def end_as_ctrl_c_does() -> None:
    """SIGTERM and SIGHUP clean up as well: half files go. What is ignored, as `nohup` has it, stays so."""
    for number in _TOLD_TO_END:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def end_at_once() -> None:
    """Takes `end_as_ctrl_c_does` back, for who handles signals itself and may be killed at any moment."""
    for number in _TOLD_TO_END:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second one does not wait for the clean-up
    raise SystemExit(128 + number)
