"""Who owns a tenant, and the keys and identifiers that follow from a record's place (records.md, section 2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

CHECKPOINT_KEY: Final = b"\x00checkpoint"
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 as the Java client computes it, as an unsigned 32-bit integer."""
    length = len(data)
    multiplier = 0x5BD1E995
    h = (0x9747B28C ^ length) & _MASK
    whole = length - length % 4
    for index in range(0, whole, 4):
        k = int.from_bytes(data[index : index + 4], "little")
        k = (k * multiplier) & _MASK
        k ^= k >> 24
        k = (k * multiplier) & _MASK
        h = ((h * multiplier) & _MASK) ^ k
    if whole != length:
        h ^= int.from_bytes(data[whole:], "little")
        h = (h * multiplier) & _MASK
    h ^= h >> 13
    h = (h * multiplier) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=8_192)
def partition_of(tenant_id: str, partition_count: int) -> int:
    """The partition that owns a tenant: what the Java client's default partitioner picks."""
    return (murmur2(tenant_id.encode()) & 0x7FFFFFFF) % partition_count


def _escaped(part: str) -> str:
    if "/" not in part and "%" not in part and "\x00" not in part:
        return part
    return part.replace("%", "%25").replace("/", "%2F").replace("\x00", "%00")


def account_key(tenant_id: str) -> bytes:
    """Key of a tenant's account in the credit table."""
    return _escaped(tenant_id).encode()


def user_key(tenant_id: str, user_id: str) -> bytes:
    """`tenant/user`; a `/` inside either part is escaped, so no two users share a key."""
    return f"{_escaped(tenant_id)}/{_escaped(user_id)}".encode()


def part_key(tenant_id: str, part: str, name: str) -> bytes:
    """`tenant//part/name`: a record that would make the account grow (no user's key has an empty part)."""
    return f"{_escaped(tenant_id)}//{part}/{_escaped(name)}".encode()
