"""A sandbox and an API as processes, as a person starts them, and clients of both."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S_MAX = 120
PSTN = (sys.executable, "-m", "pipeline")


def environment(folder: Path) -> dict[str, str]:
    """What `. folder/env` sets."""
    found = re.findall(r"export (\w+)='(.*)'", (folder / "env").read_text())
    return os.environ | dict(found) | {"PSTN_TOKENS": str(folder / "tokens.json"), "COLUMNS": "160"}


@contextmanager
def process(arguments: tuple[str, ...], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        running = subprocess.Popen(arguments, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(10)


@contextmanager
def sandbox_process(folder: Path) -> Iterator[dict[str, str]]:
    """`pstn sandbox`; yields the environment for other commands."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "sandbox.out"
    with process((*PSTN, "sandbox", "--folder", str(folder)), dict(os.environ), log) as running:
        wait_for((folder / "env").exists, running, log)
        yield environment(folder)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def api_process(
    env: dict[str, str], folder: Path, *options: str, scheme: str = "http", **verify: object
) -> Iterator[str]:
    """`pstn api`; yields its address once it answers."""
    url = f"{scheme}://127.0.0.1:{(port := free_port())}"
    log = folder / f"api-{port}.out"
    with process((*PSTN, "api", "--port", str(port), *options), env, log) as running:
        wait_for(lambda: answers(url, **verify), running, log)
        yield url


def answers(url: str, **verify: object) -> bool:
    try:
        return httpx.get(f"{url}/healthz", **verify).status_code == 200  # type: ignore[arg-type]
    except httpx.TransportError:
        return False


def wait_for(holds: Callable[[], bool], running: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_S_MAX
    while not holds():
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.1)


def pstn(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command, as it ends."""
    return subprocess.run([*PSTN, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)


def done(env: dict[str, str], *arguments: str) -> str:
    """A command that succeeds: what it printed."""
    ended = pstn(env, *arguments)
    assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
    return ended.stdout
