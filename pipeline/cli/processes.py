"""`pstn worker --processes N`: one parent, N workers, each a member of the group like any other.

What on-call staff expect of a supervisor: SIGTERM and SIGINT reach every worker, and the parent ends after the last
of them. A worker that dies (a signal, a crash) is started again, after 1 s at first and 30 s at most. One that ends
because it must (exit code 2: a setting or the outside is wrong; 70: the books contradict themselves) ends all, with its
code: it would meet the same again, and whoever watches the parent must see it. When the parent is killed, its workers
stop.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

import structlog

log = structlog.get_logger(__name__)

NUMBER = "PSTN_PROCESS"
"""Environment variable that tells a worker which of its parent's it is, from 0."""
PARENT = "PSTN_PARENT"
"""And this one the parent's process id."""
_PARENT_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h
_POLL_S = 0.1
# A worker leaves within 5 s; one that does not is killed before an orchestrator's usual 30 s are over.
_STOP_S_MAX = 20.0
_BACKOFF_S_MAX = 30.0
# One that worked for so long had no trouble with starting.
_SOUND_S = 60.0
# What a person must mend.
_ENDS = (2, 70)


class _Worker:
    """One of the processes, whichever start of it."""

    def __init__(self, number: int, environment: Mapping[str, str]) -> None:
        self.number = number
        self._environment = {**environment, NUMBER: str(number), PARENT: str(os.getpid())}
        self._deaths = 0
        self._start_at_s = 0.0
        self._started_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._started_s = time.monotonic()
        self._process = subprocess.Popen([sys.executable, "-m", "pipeline", "worker"], env=self._environment)
        log.info("process_started", process=self.number, pid=self._process.pid)

    def look(self) -> int | None:
        """Starts it (again) when its time has come. The exit code of one that ended because it must."""
        if self._process is None:
            if time.monotonic() >= self._start_at_s:
                self.start()
            return None
        code = self._process.poll()
        if code is None or code in _ENDS:
            return code
        now_s = time.monotonic()
        self._deaths = 1 if now_s - self._started_s > _SOUND_S else self._deaths + 1
        wait_s = min(_BACKOFF_S_MAX, 2.0 ** min(self._deaths - 1, 10))
        self._start_at_s, self._process = now_s + wait_s, None
        log.error("process_died", process=self.number, exit_code=code, starts_again_in_s=wait_s)
        return None

    def stop(self, until_s: float) -> int:
        """Waits for its end, which SIGTERM was to bring about; its exit code."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("process_killed", process=self.number, hint=f"it did not stop within {_STOP_S_MAX:g} s")
            self._process.kill()
            return self._process.wait()

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()


def run_processes(count: int, *, environment: Mapping[str, str], web_port: int) -> int:
    """Runs workers until SIGTERM or SIGINT; the exit code. Worker number i serves its metrics on `web_port` + i."""
    told = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: told.set())
    workers = [
        _Worker(number, {**environment, "PSTN_WEB_PORT": str(web_port + number if web_port else 0)})
        for number in range(count)
    ]
    code = 0
    while not told.is_set() and code == 0:
        code = next((ended for worker in workers if (ended := worker.look())), 0)
        told.wait(_POLL_S)
    for worker in workers:
        worker.terminate()
    until_s = time.monotonic() + _STOP_S_MAX
    codes = [worker.stop(until_s) for worker in workers]
    return code or next((each if each > 0 else 128 - each for each in codes if each), 0)


def begin_as_child() -> None:
    """In a worker of a parent: tags every line of its log, and stops when the parent dies."""
    number = os.environ.get(NUMBER)
    if number is None:
        return
    structlog.contextvars.bind_contextvars(process=int(number))
    with suppress(OSError, AttributeError):  # elsewhere than on Linux: nothing
        ctypes.CDLL(None).prctl(_PARENT_SIGNAL, signal.SIGTERM)
    if os.environ.get(PARENT) != str(os.getppid()):  # it died while this one was starting
        os.kill(os.getpid(), signal.SIGTERM)
