"""How many slices of a worker may be between decided and committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_SLICES_MAX = 4
"""While one is decided the others can be committed. Twelve take 35 MB more, for a twentieth more records a second."""
_COMMIT_S_MAX = 1.0


class Turn:
    """One slice's, of the few."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._is_over = False
        self._ending: asyncio.TimerHandle | None = None

    def committing(self) -> None:
        """The slice is decided: from now on its turn lasts a second at most. A broker that hangs holds nobody up."""
        self._ending = asyncio.get_running_loop().call_later(_COMMIT_S_MAX, self.end)

    def end(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        if not self._is_over:
            self._is_over = True
            self._free.release()


class Turns:
    """Shared by a worker's partitions. The outputs of a decided record, and its copies, take 7 kB until the commit."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_SLICES_MAX)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Turn]:
        """Waits for a turn, which ends with the block at the latest."""
        await self._free.acquire()
        turn = Turn(self._free)
        try:
            yield turn
        finally:
            turn.end()
