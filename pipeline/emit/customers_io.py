"""Reads the customers file, and again when it has changed: a new contact needs no restart.

A changed file that is wrong is an error in the log; what was read before stays in force.
"""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import structlog

from pipeline.emit.customers import NOBODY, Customers, CustomersWrong, parse_customers

log = structlog.get_logger(__name__)

_LOOK_S = 10.0


def load_customers(path: Path | None) -> Customers:
    """What the file says; nobody without a file. CustomersWrong: `FILE: place: what is wrong`."""
    if path is None:
        return NOBODY
    try:
        with path.open("rb") as file:
            return parse_customers(tomllib.load(file))
    except (OSError, ValueError) as error:
        raise CustomersWrong(f"{path}: {error}") from None


class CustomersFile:
    """`current()` is what the file says now, at most ten seconds late."""

    def __init__(self, path: Path | None) -> None:
        """CustomersWrong when the file cannot be used from the beginning."""
        self._path = path
        self._seen = _stamp(path)
        self._customers = load_customers(path)
        self._look_at_s = time.monotonic() + _LOOK_S

    def current(self) -> Customers:
        now_s = time.monotonic()
        if self._path is not None and now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            seen = _stamp(self._path)
            if seen != self._seen:
                self._seen = seen
                try:
                    self._customers = load_customers(self._path)
                except CustomersWrong as error:
                    log.error("customers_not_read", error=str(error), hint="the file as it was before stays in force")
        return self._customers


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)
