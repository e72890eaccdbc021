"""The parent of several workers: it must outlive whatever happens to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pipeline.cli.processes import _Worker


@pytest.mark.parametrize("deaths", [1, 5, 5_000])
def test_a_worker_that_dies_at_once_is_started_again_after_half_a_minute_at_most(
    deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often: after a night of deaths, one each half minute, the parent itself must not be the next to die."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    worker = _Worker(0, {})
    worker._deaths = deaths - 1
    worker.start()
    assert worker._process is not None
    worker._process.wait()
    died_s = time.monotonic()
    assert worker.look() is None
    wait_s = min(30.0, 2.0 ** min(deaths - 1, 10))
    assert died_s + wait_s <= worker._start_at_s <= time.monotonic() + wait_s


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_worker_whose_parent_died_before_it_could_listen_ends(is_alive: bool) -> None:
    """It starts for a second before it asks to be told of its parent's end: nobody would ever stop it."""
    with subprocess.Popen(["true"]) as dead:
        pass
    begin = "from pipeline.cli.processes import begin_as_child; begin_as_child(); print('works')"
    environment = os.environ | {"PSTN_PROCESS": "0", "PSTN_PARENT": str(os.getpid() if is_alive else dead.pid)}
    ended = subprocess.run([sys.executable, "-c", begin], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == ((0, "works\n") if is_alive else (-signal.SIGTERM, ""))
