"""One libFuzzer process: `python -m tests.fuzz.engine TARGET [libFuzzer's arguments]`.

Everything of the product that is imported below is instrumented, so that the search is guided by the branches that it
reaches.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipeline.base", "pipeline.cdr", "pipeline.debit", "pipeline.charge"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = sys.argv.pop(1)
    # A merge starts itself again by a shell, with this word as its command.
    sys.argv[0] = f"{sys.executable} -m tests.fuzz.engine {target}"
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
