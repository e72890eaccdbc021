"""The demo's worker: inside this process on the embedded broker, a process of its own on Apache Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.logging_io import configure_logging
from pipeline.base.settings_io import Settings

_STOP_S_MAX = 15.0


class DemoWorker(Protocol):
    """All four roles. As a context it runs, and is stopped cleanly at the end."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def check(self) -> None:
        """Raises what ended the worker, when it ended by itself; asyncio.CancelledError after Ctrl-C."""

    async def kill(self) -> bool:
        """`kill -9`, and started again at once. False where that cannot be done."""


class WorkerInside:
    """In this event loop. Its end is this process's end, so it cannot be killed."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        from pipeline.app import LedgerApp, run_worker  # noqa: PLC0415  # Faust takes its time

        def started(app: LedgerApp) -> None:
            self._stop = app.stopping

        self._file = self._log.open("w", encoding="utf-8")
        configure_logging(self._settings, self._file)
        self._task = asyncio.create_task(run_worker(self._settings, on_started=started))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        if self._stop is None:
            self._task.cancel()
        else:
            self._stop.set()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await asyncio.wait_for(asyncio.gather(self._task, return_exceptions=True), _STOP_S_MAX)
        self._file.close()

    def check(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()
            raise asyncio.CancelledError  # it stops by itself only when a signal asked for it

    async def kill(self) -> bool:
        return False


class WorkerProcess:
    """`pstn worker`, its settings in the environment."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S_MAX)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def check(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise WorkerMustStop(f"the worker ended by itself: {' '.join(last) or 'it said nothing'}; see {self._log}")

    async def kill(self) -> bool:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await self._start()
        return True

    async def _start(self) -> None:
        given = self._settings.model_dump(mode="json", exclude_unset=True)
        named = {f"PSTN_{name.upper()}": _as_text(value) for name, value in given.items() if value is not None}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pipeline",
                "worker",
                env={**os.environ, **named},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the demo's, which then stops the worker cleanly
            )


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
