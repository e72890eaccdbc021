"""A store for people at a command line: one that is away for a moment is asked again before they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pipeline.warehouse.store import ColumnType, Rows, Store, StoreAway

# About 4 s in all: a server that restarts is back by then, and nobody waits longer for bad news.
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.5


class PatientStore:
    """Reads through a store that `open` makes, and makes it again after a failure: an embedded warehouse may have
    changed its owner."""

    def __init__(self, open_again: Callable[[], Store], on_retry: Callable[[str], None]) -> None:
        """`on_retry` is told, in one line, what is being waited for."""
        self._open = open_again
        self._on_retry = on_retry
        self._store: Store | None = None
        self.name = ""
        self._again(lambda store: setattr(self, "name", store.name))

    def query(self, sql: str) -> Rows:
        """An answer that breaks off half-way raises StoreAway: rows were handed out."""
        answer: list[Rows] = []
        self._again(lambda store: answer.append(store.query(sql)))
        return answer[-1]

    def engine_version(self) -> str:
        return self._opened().engine_version()

    def create_database(self) -> None:
        self._opened().create_database()

    def execute(self, sql: str) -> None:
        self._opened().execute(sql)

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        self._opened().insert(table, columns, data)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _again(self, work: Callable[[Store], None]) -> None:
        def reopen(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self._on_retry(str(error))
            self.close()

        for attempt in Retrying(
            retry=retry_if_exception_type(StoreAway),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=_FIRST_WAIT_S, max=2),
            before_sleep=reopen,
            reraise=True,
        ):
            with attempt:
                work(self._opened())
