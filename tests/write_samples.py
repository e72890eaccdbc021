"""`python -m tests.write_samples`: after a schema was changed on purpose, writes the golden messages anew.

It takes the readable samples as they are, and prints the lines that `schemas/fingerprints.txt` still lacks.
"""

from __future__ import annotations

from pipeline.base.avro import codec
from tests.avro_values import NAMES, SCHEMAS, sample_of

HEX_DIGITS_A_LINE = 96


def main() -> None:
    listed = (SCHEMAS / "fingerprints.txt").read_text().splitlines()
    for name in NAMES:
        digits = codec(name).encode(sample_of(name)).hex()
        lines = [digits[at : at + HEX_DIGITS_A_LINE] for at in range(0, len(digits), HEX_DIGITS_A_LINE)]
        (SCHEMAS / "samples" / f"{name}.avro.hex").write_text("\n".join(lines) + "\n")
        line = f"{name} {codec(name).fingerprint.hex()}"
        if line not in listed:
            print(line)


if __name__ == "__main__":
    main()
