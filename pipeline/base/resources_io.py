"""Where the files that ship with the package lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["schemas", "rating_tables", "clickhouse"]

_PACKAGE = Path(__file__).resolve().parent.parent
_IN_CHECKOUT = {"schemas": "schemas", "rating_tables": "rating_tables", "clickhouse": "deploy/clickhouse"}


def resource_path(kind: Kind) -> Path:
    """The folder of that kind; FileNotFoundError when the installation lacks it."""
    for folder in (_PACKAGE / "_resources" / kind, _PACKAGE.parent / _IN_CHECKOUT[kind]):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation lacks its folder {kind}: install the package again")
