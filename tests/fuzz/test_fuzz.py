"""A bounded search in every run, and everything that any search ever found worth keeping."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz import corpus_io
from tests.fuzz.targets import TARGETS, seeds

SECONDS = 5


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_input_that_was_kept_keeps_its_promises(target: str) -> None:
    """The corpus reaches every branch that was ever reached, former findings among them."""
    kept = corpus_io.load(target)
    assert len(kept) > 20
    for data in [*kept, *seeds(target)]:
        TARGETS[target](data)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_short_search_finds_nothing(target: str) -> None:
    """A change of a decoder is searched before it is merged; `make fuzz SECONDS=3600` searches longer."""
    command = [sys.executable, "-m", "tests.fuzz", "--target", target, "--seconds", str(SECONDS), "--no-keep"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_the_search_notices_a_decoder_that_breaks_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is no check: a body read otherwise than fastavro reads it is a finding."""
    from tests.fuzz import targets

    real = targets.codec("cdr").decode
    monkeypatch.setattr(targets.codec("cdr"), "decode", lambda value: {**real(value), "duration_s": -1})
    with pytest.raises(AssertionError, match="fastavro"):
        for data in seeds("avro"):
            targets.avro(data)
