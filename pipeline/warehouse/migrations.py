"""The numbered SQL files of `deploy/clickhouse/`: one migration each, `0001_what_it_makes.sql`.

An applied file is never edited: what changes is a new file. Every statement is safe to repeat (`IF NOT EXISTS`),
because an engine without transactions may die between two of them. A line `-- Needs ClickHouse 23.3.` leaves a file out
on an older engine, until that is replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from pipeline.warehouse.store import ColumnType

VERSIONS_TABLE = "schema_migrations"
VERSIONS_COLUMNS = (ColumnType("version", "UInt32"), ColumnType("name", "String"), ColumnType("digest", "String"))
CREATE_VERSIONS_TABLE = f"""CREATE TABLE IF NOT EXISTS {VERSIONS_TABLE} (
    version UInt32 COMMENT 'number of the migration',
    name String COMMENT 'its file',
    digest String COMMENT 'first digits of the SHA-256 of its statements',
    applied_at DateTime('UTC') DEFAULT now() COMMENT 'when it was applied'
) ENGINE = ReplacingMergeTree ORDER BY version"""
SELECT_VERSIONS = f"SELECT version, digest FROM {VERSIONS_TABLE} FINAL ORDER BY version"

EngineVersion = tuple[int, int]

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_NEEDS = re.compile(r"^-- Needs ClickHouse (\d+)\.(\d+)\.$", re.MULTILINE)
_DIGEST_DIGITS = 16


class MigrationError(Exception):
    """The files contradict each other or what was applied. One line for a person."""


class Migration(NamedTuple):
    """One file. `digest` is of the statements alone, so a comment may be improved. `needs`: the oldest engine."""

    version: int
    name: str
    statements: tuple[str, ...]
    digest: str
    needs: EngineVersion


def parse_migration(name: str, text: str) -> Migration:
    """Statements end with `;` at the end of a line; whole lines of `--` are comments."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise MigrationError(f"{name}: a migration is named like 0001_what_it_makes.sql")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    pieces = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    statements = tuple(piece.strip() for piece in pieces if piece.strip())
    if not statements:
        raise MigrationError(f"{name}: no statement in it")
    digest = hashlib.sha256("\n;\n".join(statements).encode()).hexdigest()[:_DIGEST_DIGITS]
    needs = _NEEDS.search(text)
    engine = (int(needs.group(1)), int(needs.group(2))) if needs else (0, 0)
    return Migration(int(match.group(1)), name, statements, digest, engine)


def parse_engine(version: str) -> EngineVersion:
    """Of `SELECT version()`, such as 18.16.1. MigrationError when it is something else."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        raise MigrationError(f"the warehouse says that its version is {version!r}")
    return int(match.group(1)), int(match.group(2))


def pending(migrations: Iterable[Migration], applied: Mapping[int, str], engine: EngineVersion) -> list[Migration]:
    """What is still to be applied to such an engine, in order. MigrationError when a number is used twice or a
    file was edited."""
    ordered = sorted(migrations)
    for before, after in pairwise(ordered):
        if before.version == after.version:
            raise MigrationError(f"{before.name} and {after.name} have the same number")
    for migration in ordered:
        if applied.get(migration.version, migration.digest) != migration.digest:
            raise MigrationError(f"{migration.name} was edited after it was applied: make a new file instead")
    return [each for each in ordered if each.version not in applied and each.needs <= engine]
