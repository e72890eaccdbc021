"""Avro's numbers and texts, read and written one at a time. Strictly: shortest forms, no negative length, nothing
beyond the end. For every type of the schemas, and for records so common that they have code of their own.

A reader raises Malformed, IndexError or UnicodeDecodeError and returns the value and where it ends; `skip_...` returns
only the end.
"""

from __future__ import annotations

from typing import Final

_NOT_NULL: Final = 2  # the union's second branch, zigzag
_LONG_MIN: Final = -(2**63)
_LONG_MAX: Final = 2**63 - 1


class Malformed(ValueError):
    """The bytes are not of the schema. `IndexError` (truncated) and `UnicodeDecodeError` say the same."""


def read_long(value: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, in its shortest form."""
    first = value[at]
    if first < 0x80:
        return (first >> 1) ^ -(first & 1), at + 1
    second = value[at + 1]
    if 0 < second < 0x80:
        zigzag = first + (second << 7) - 0x80
        return (zigzag >> 1) ^ -(zigzag & 1), at + 2
    if second >= 0x80:
        third = value[at + 2]
        if 0 < third < 0x80:
            zigzag = first + (second << 7) + (third << 14) - 0x4080
            return (zigzag >> 1) ^ -(zigzag & 1), at + 3
    return _read_long_slow(value, at)


def _read_long_slow(value: bytes, at: int) -> tuple[int, int]:
    zigzag = 0
    for shift in range(0, 64, 7):
        byte = value[at]
        at += 1
        if byte < 0x80:
            if byte == 0 or (shift == 63 and byte > 1):
                break
            zigzag |= byte << shift
            return (zigzag >> 1) ^ -(zigzag & 1), at
        zigzag |= (byte & 0x7F) << shift
    raise Malformed("a number is longer than its shortest form or than 64 bits")


def read_length(value: bytes, at: int) -> tuple[int, int]:
    """A length of what is there, and where it ends."""
    first = value[at]
    if first & 0x81:  # negative, or of several bytes
        length, at = read_long(value, at)
        if length < 0:
            raise Malformed("a length is negative")
    else:
        length = first >> 1
        at += 1
    if length > len(value) - at:
        raise Malformed("the message is truncated: a length is larger than what is left")
    return length, at


def read_text(value: bytes, at: int) -> tuple[str, int]:
    """A string."""
    length, at = read_length(value, at)
    end = at + length
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
    length, at = read_length(value, at)
    return at + length


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


def encode_text(text: str) -> bytes:
    """Length and content."""
    content = text.encode()
    return encode_long(len(content)) + content


def _varint_slow(zigzag: int) -> bytes:
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


# Fourteen bits at a time: LAST ends a number, MORE (always two bytes) is followed by further bytes.
_LAST: Final = [_varint_slow(bits) for bits in range(1 << 14)]
_MORE: Final = [bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80)) for bits in range(1 << 14)]


def encode_long(number: int) -> bytes:
    """Zigzag varint; ValueError beyond 64 bits."""
    zigzag = number << 1 if number >= 0 else ~(number << 1)
    if zigzag < 0x4000:
        return _LAST[zigzag]
    if zigzag < 0x1000_0000:
        return _MORE[zigzag & 0x3FFF] + _LAST[zigzag >> 14]
    if zigzag < 0x400_0000_0000:
        return _MORE[zigzag & 0x3FFF] + _MORE[zigzag >> 14 & 0x3FFF] + _LAST[zigzag >> 28]
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise ValueError(f"{number} does not fit into 64 bits")
    return _varint_slow(zigzag)
