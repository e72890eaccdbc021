"""Tokens of the API: who may do what for which tenants. Pure.

A token is `pstn_` and 256 random bits. Kept is only its SHA-256: of so many bits nobody finds it by trying, so a slow
hash would cost each request and protect nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

from pipeline.base.calendar import format_time, parse_time


class Role(IntEnum):
    """Each may do what those before it may."""

    VIEWER = 1
    """Reads, and asks `authorize`."""
    BILLING = 2
    """Moves money and licences."""
    OPERATOR = 3
    """Opens accounts and answers recharges by hand."""


class Token(NamedTuple):
    """`tenants` None: all of them."""

    name: str
    role: Role
    tenants: frozenset[str] | None
    digest: str
    created_at: int
    created_by: str
    revoked_at: int | None = None

    def may_see(self, tenant_id: str) -> bool:
        return self.tenants is None or tenant_id in self.tenants


class TokenFileError(ValueError):
    """The file is no file of tokens. One line for a person."""


def digest_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def dump_tokens(tokens: Iterable[Token]) -> str:
    """The file's text."""
    listed = [
        {
            "name": token.name,
            "role": token.role.name.lower(),
            "tenants": None if token.tenants is None else sorted(token.tenants),
            "sha256": token.digest,
            "created_at": format_time(token.created_at),
            "created_by": token.created_by,
            "revoked_at": None if token.revoked_at is None else format_time(token.revoked_at),
        }
        for token in tokens
    ]
    return json.dumps({"tokens": listed}, indent=1, ensure_ascii=False) + "\n"


def load_tokens(text: str) -> list[Token]:
    """TokenFileError when the text is none of `dump_tokens`."""
    try:
        return [
            Token(
                str(each["name"]),
                Role[each["role"].upper()],
                None if each["tenants"] is None else frozenset(map(str, each["tenants"])),
                str(each["sha256"]),
                parse_time(each["created_at"]),
                str(each["created_by"]),
                None if each["revoked_at"] is None else parse_time(each["revoked_at"]),
            )
            for each in json.loads(text)["tokens"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenFileError(f"not a file of tokens ({type(error).__name__}: {error})") from None
