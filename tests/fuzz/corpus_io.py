"""The corpus of a target as one text file: an input a line, in hex, so that a change of it can be read in a diff."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus"


def load(target: str) -> list[bytes]:
    """Empty when nothing is kept yet."""
    path = FOLDER / f"{target}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def store(target: str, inputs: list[bytes]) -> None:
    """Shortest first; equal inputs once."""
    FOLDER.mkdir(exist_ok=True)
    lines = sorted({each.hex() for each in inputs}, key=lambda line: (len(line), line))
    (FOLDER / f"{target}.hex").write_text("".join(line + "\n" for line in lines))


def unpack(inputs: list[bytes], folder: Path) -> None:
    """As libFuzzer wants them: a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in inputs:
        (folder / sha256(each).hexdigest()[:20]).write_bytes(each)


def read_folder(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]
