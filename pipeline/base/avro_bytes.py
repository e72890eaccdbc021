"""Avro's numbers and texts, read and written one at a time: for records that are so common that they have code of
their own. As strict as `avro_decoder.py`: shortest forms, no negative length, nothing beyond the end.

A reader raises Malformed, IndexError or UnicodeDecodeError and returns the value and where it ends; `skip_...` returns
only the end.
"""

from __future__ import annotations

from typing import Final

from pipeline.base.avro_decoder import Malformed

_LONG_BITS: Final = 63
_NOT_NULL: Final = 2  # the union's second branch, zigzag


def read_long(value: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits."""
    byte = value[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    zigzag, shift = byte & 0x7F, 7
    while True:
        byte = value[at]
        at += 1
        if byte < 0x80:
            break
        zigzag |= (byte & 0x7F) << shift
        shift += 7
        if shift > _LONG_BITS:
            raise Malformed("a number is longer than 64 bits")
    if byte == 0 or (shift == _LONG_BITS and byte > 1):
        raise Malformed("a number is longer than its shortest form or than 64 bits")
    zigzag |= byte << shift
    return (zigzag >> 1) ^ -(zigzag & 1), at


def read_text(value: bytes, at: int) -> tuple[str, int]:
    """A string."""
    length, at = read_long(value, at)
    end = _end(value, at, length)
    return value[at:end].decode(), end


def read_bool(value: bytes, at: int) -> bool:
    """A truth value, which takes one byte."""
    byte = value[at]
    if byte > 1:
        raise Malformed("a truth value is neither 0 nor 1")
    return byte == 1


def read_count(value: bytes, at: int) -> tuple[int, int]:
    """How many items the one block of an array has; 0: it has none, and no block."""
    count, at = read_long(value, at)
    if count < 0 or count > len(value) - at:
        raise Malformed("an array is not as it is written here")
    return count, at


def is_present(value: bytes, at: int) -> bool:
    """Whether a nullable value, which stands behind this byte, is there."""
    byte = value[at]
    if byte not in (0, _NOT_NULL):
        raise Malformed("a nullable field is neither null nor present")
    return byte == _NOT_NULL


def skip_text(value: bytes, at: int) -> int:
    """Behind a string."""
    length, at = read_long(value, at)
    return _end(value, at, length)


def skip_optional_text(value: bytes, at: int) -> int:
    """Behind a string that may be null."""
    return skip_text(value, at + 1) if is_present(value, at) else at + 1


def skip_optional_long(value: bytes, at: int) -> int:
    """Behind a number that may be null."""
    return read_long(value, at + 1)[1] if is_present(value, at) else at + 1


def skip_texts(value: bytes, at: int) -> int:
    """Behind an array of strings."""
    count, at = read_count(value, at)
    if count:
        for _ in range(count):
            at = skip_text(value, at)
        at = end_of_items(value, at)
    return at


def end_of_items(value: bytes, at: int) -> int:
    """Behind the block of no items that ends an array."""
    if value[at] != 0:
        raise Malformed("an array is not as it is written here")
    return at + 1


def _end(value: bytes, at: int, length: int) -> int:
    if length < 0 or length > len(value) - at:
        raise Malformed("a length is negative or larger than the message")
    return at + length


def write_text(text: str) -> bytes:
    """Length and content."""
    content = text.encode()
    return write_long(len(content)) + content


def write_long(number: int) -> bytes:
    """Zigzag varint; ValueError beyond 64 bits."""
    zigzag = number << 1 if number >= 0 else ~(number << 1)
    if zigzag < len(_SHORT):
        return _SHORT[zigzag]
    if zigzag >> 64:
        raise ValueError(f"{number} does not fit into 64 bits")
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _short(zigzag: int) -> bytes:
    return bytes((zigzag,)) if zigzag < 0x80 else bytes((zigzag & 0x7F | 0x80, zigzag >> 7))


_SHORT: Final = [_short(zigzag) for zigzag in range(1 << 14)]
