"""Opens a warehouse by its address, and brings its tables up to date."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.base.resources_io import resource_path
from pipeline.warehouse.migrations import (
    CREATE_VERSIONS_TABLE,
    SELECT_VERSIONS,
    VERSIONS_COLUMNS,
    VERSIONS_TABLE,
    Migration,
    MigrationError,
    parse_engine,
    parse_migration,
    pending,
)
from pipeline.warehouse.store import FOLDER_WAIT_S, FolderAddress, Store, StoreRefused, parse_address


def open_store(url: str, *, for_reading: bool = False, wait_s: float = FOLDER_WAIT_S) -> Store:
    """The warehouse at `clickhouse://…` or `chdb:FOLDER`. A folder may be opened `for_reading` while another process
    owns it: that one then answers; else it is waited for. StoreRefused or StoreAway, with one line for a person."""
    # ClickHouse's driver, which both need, takes 0.2 s; as much again, and 20 MB, for a table of the days of four
    # centuries, if it may not make a day when it meets one.
    os.environ.setdefault("CLICKHOUSE_DRIVER_LASY_DATE_LUT", "1970-01-01:1970-01-01")
    from pipeline.embedded.clickhouse_io import open_folder  # noqa: PLC0415
    from pipeline.warehouse.server_io import ClickHouseStore  # noqa: PLC0415

    address = parse_address(url)
    if isinstance(address, FolderAddress):
        return open_folder(Path(address.folder), for_reading=for_reading, wait_s=wait_s)
    return ClickHouseStore(address)


def migrate(store: Store, folder: Path | None = None) -> list[Migration]:
    """Brings the tables up to the files of `folder` (default: those shipped); returns what was applied now."""
    store.create_database()
    store.execute(CREATE_VERSIONS_TABLE)
    todo = pending_migrations(store, folder)
    for migration in todo:
        for statement in migration.statements:
            store.execute(statement)
        store.insert(VERSIONS_TABLE, VERSIONS_COLUMNS, [[migration.version], [migration.name], [migration.digest]])
    return todo


def pending_migrations(store: Store, folder: Path | None = None) -> list[Migration]:
    """What `migrate` would apply, in order; writes nothing. StoreRefused when an applied file was edited."""
    engine = store.engine_version()
    applied: dict[int, str] = {}
    try:
        applied = {int(str(version)): str(digest) for version, digest in store.query(SELECT_VERSIONS).rows}
    except StoreRefused as error:
        if VERSIONS_TABLE not in str(error) and "doesn't exist" not in str(error):
            raise  # else: no database, or one without tables
    files = sorted((folder or resource_path("clickhouse")).glob("*.sql"))
    try:
        migrations = [parse_migration(path.name, path.read_text(encoding="utf-8")) for path in files]
        return pending(migrations, applied, parse_engine(engine))
    except MigrationError as error:
        raise StoreRefused(str(error)) from error
