"""What was done and when, on the terminal and in a file: `  12.3 s  kill_worker: ledger-2, pid 4711`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO


class Transcript:
    """`out`: where a person watches; None for silence."""

    def __init__(self, path: Path, out: TextIO | None) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._out = out
        self._begin_s = time.monotonic()

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self._begin_s:7.1f} s  {text}"
        for stream in (self._file, self._out):
            if stream is not None:
                print(line, file=stream, flush=True)

    def close(self) -> None:
        self._file.close()
