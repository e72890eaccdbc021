"""Searches for bytes that break a promise: `make fuzz`, or `python -m tests.fuzz [--seconds 60] [--target call]`.

Each target runs for its share of the time, from the corpus that is kept; what reached new branches is added to it, and
only what is needed for them is kept. A finding is written to tests/fuzz/findings/ and ends with exit code 1: make it a
test first, then mend it, then put it into the corpus (it is there already when the next run finds nothing).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import corpus_io
from tests.fuzz.targets import TARGETS, seeds

FINDINGS = Path(__file__).resolve().parent / "findings"
INPUT_BYTES_MAX = 1024
# A record that takes longer is a finding of its own: a partition's slice has 200 ms for 2,000 of them.
SECONDS_OF_ONE_INPUT_MAX = 10


def search(target: str, seconds: int, *, is_keeping: bool) -> bool:
    """True when nothing was found."""
    with tempfile.TemporaryDirectory(prefix="pstn-fuzz-") as made:
        known, grown, merged = Path(made, "known"), Path(made, "grown"), Path(made, "merged")
        corpus_io.unpack(corpus_io.load(target) or seeds(target), known)
        for folder in (grown, merged, FINDINGS):
            folder.mkdir(exist_ok=True)
        limits = [f"-max_len={INPUT_BYTES_MAX}", f"-timeout={SECONDS_OF_ONE_INPUT_MAX}", "-rss_limit_mb=2048"]
        found = f"-artifact_prefix={FINDINGS}/{target}-"
        time_limit = [f"-max_total_time={seconds}", "-print_final_stats=1", "-verbosity=0"]
        is_clean = _engine(target, *limits, *time_limit, found, grown, known)
        if is_keeping:
            _engine(target, "-merge=1", "-verbosity=0", *limits, merged, grown, known)
            corpus_io.store(target, corpus_io.read_folder(merged))
        return is_clean


def _engine(target: str, *arguments: object) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.engine", target, *map(str, arguments)]
    return subprocess.run(command, check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of all targets together")
    parser.add_argument("--target", choices=sorted(TARGETS), help="one alone")
    parser.add_argument("--no-keep", action="store_true", help="leave the corpus as it is")
    options = parser.parse_args()
    chosen = [options.target] if options.target else sorted(TARGETS)
    share_s = max(1, options.seconds // len(chosen))
    broken = [target for target in chosen if not search(target, share_s, is_keeping=not options.no_keep)]
    if broken:
        raise SystemExit(f"findings in {', '.join(broken)}: see {FINDINGS}")
    print(f"nothing found in {share_s} s of each of {', '.join(chosen)}")


if __name__ == "__main__":
    main()
