"""One libFuzzer process: `python -m tests.fuzz.engine TARGET [libFuzzer's arguments]`.

Everything of the product that is imported below is instrumented, and the decoders that it writes at run time too, so
that the search is guided by the branches that it reaches.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipeline.base", "pipeline.cdr", "pipeline.debit", "pipeline.charge"]):
    from tests.fuzz.targets import TARGETS

from pipeline.base.avro import codec
from tests.avro_values import NAMES


def main() -> None:
    target = sys.argv.pop(1)
    # A merge starts itself again by a shell, with this word as its command.
    sys.argv[0] = f"{sys.executable} -m tests.fuzz.engine {target}"
    for name in NAMES:
        found = codec(name)
        atheris.instrument_func(found._decode)
        atheris.instrument_func(found._decode_values)
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
