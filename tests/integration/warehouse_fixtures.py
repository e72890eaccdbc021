"""A ClickHouse server for the run, and a fresh warehouse of each kind for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded.clickhouse_server_io import ClickHouseServer, ServerNotStarted
from pipeline.warehouse.store import Store
from pipeline.warehouse.store_io import migrate, open_store

_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """Debian's ClickHouse 18.16 on loopback; who kills it starts it again."""
    server = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    try:
        server.start()
    except ServerNotStarted as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def server_url(clickhouse_server: ClickHouseServer) -> str:
    """A database of the server that no other test uses."""
    return clickhouse_server.url(f"test_{next(_database_numbers)}")


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    """An embedded warehouse that no other test uses."""
    return f"chdb:{tmp_path / 'warehouse'}"


@pytest.fixture(params=["server", "chdb"])
def warehouse_url(request: pytest.FixtureRequest) -> str:
    """Each kind in turn."""
    return str(request.getfixturevalue("server_url" if request.param == "server" else "folder_url"))


@pytest.fixture
def store(warehouse_url: str) -> Iterator[Store]:
    """Empty tables in each kind of warehouse in turn."""
    opened = open_store(warehouse_url)
    migrate(opened)
    yield opened
    opened.close()
