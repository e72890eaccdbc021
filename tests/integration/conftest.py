"""Fixtures of the integration tests."""

from tests.integration.warehouse_fixtures import clickhouse_server, folder_url, server_url, store, warehouse_url

__all__ = ["clickhouse_server", "folder_url", "server_url", "store", "warehouse_url"]
