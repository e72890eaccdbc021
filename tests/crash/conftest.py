"""Fixtures of the crash tests."""

from tests.integration.warehouse_fixtures import clickhouse_server

__all__ = ["clickhouse_server"]
