"""A plugin for `make mutants`, which runs every mutant in a fork of one process.

mutmut asks an item for its id by a name that pytest has given up; and what the process remembers of the sound code
(answers of `lru_cache`, quotes) would hide a mutant.
"""

from __future__ import annotations

import sys

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item._nodeid = item.nodeid  # type: ignore[attr-defined]


def pytest_runtest_setup() -> None:
    """Before each test: what one test made another remember would hide from mutmut that the other needs it too."""
    for name, module in list(sys.modules.items()):
        if name.startswith("pipeline."):
            for found in vars(module).values():
                if hasattr(found, "cache_clear"):
                    found.cache_clear()
    rate = sys.modules.get("pipeline.charge.rate")
    if rate is not None:
        rate._quotes.clear()
