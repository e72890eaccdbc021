"""Columns as arrays, one short step from the bytes of ClickHouse's Native format. Pure.

They read as sequences of the values that lists would hold (`str`, `int`, `bool`, `None`, `list`), for whoever does not
send them on as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

DTYPES: dict[str, np.dtype[Any]] = {"Int64": np.dtype("<i8"), "Int32": np.dtype("<i4"), "UInt8": np.dtype(np.bool_)}
"""The array that holds a column of a type; of UInt8 there are only truth values."""
_KINDS = {dtype.str: kind for kind, dtype in DTYPES.items()}


class Packed(ABC, Sequence[object]):
    """A column of one block. Never changed."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """ClickHouse's name of the type."""

    @abstractmethod
    def native(self) -> bytes:
        """The column's values as a Native block has them, without name and type."""

    @abstractmethod
    def values(self) -> list[Any]:
        """As Python's own values."""

    @classmethod
    @abstractmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """The same values in one column."""

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        return self.values()[index]

    def __iter__(self) -> Iterator[object]:
        return iter(self.values())


class PackedTexts(Packed):
    """`String`. `content`: each text behind its length as a number of 7 bits a byte; `sizes`: of both together."""

    def __init__(self, content: Bytes, sizes: Longs) -> None:
        self._content = content
        self._sizes = sizes

    @classmethod
    def of_spans(cls, buffer: Bytes, starts: Longs, lengths: Longs) -> Self:
        """The texts at `starts` of `buffer`; before each of them stand as many bytes as its length will take."""
        heads = np.ones(len(lengths), np.int64)
        while len(longer := np.flatnonzero(lengths >> 7 * heads)):
            heads[longer] += 1
        sizes = heads + lengths
        ends = np.cumsum(sizes)
        begins = ends - sizes
        places = np.arange(ends[-1] if len(ends) else 0)
        places += np.repeat(starts - heads - begins, sizes)
        content = buffer[places]
        for index in range(int(heads.max(initial=0))):
            rows = np.flatnonzero(heads > index)
            goes_on = (heads[rows] > index + 1).astype(np.int64) << 7
            content[begins[rows] + index] = lengths[rows] >> 7 * index & 0x7F | goes_on
        return cls(content, sizes)

    def not_utf8(self) -> list[int]:
        """The places of texts that are none."""
        high = np.flatnonzero(self._content > 0x7F)
        if not len(high):
            return []
        ends = np.cumsum(self._sizes)
        found = []
        for row in np.unique(np.searchsorted(ends, high, side="right")).tolist():
            try:
                _text(self._content[ends[row] - self._sizes[row] : ends[row]].tobytes())
            except UnicodeDecodeError:
                found.append(row)
        return found

    kind = "String"

    def native(self) -> bytes:
        return self._content.tobytes()

    def values(self) -> list[Any]:
        content = self._content.tobytes()
        ends = np.cumsum(self._sizes).tolist()
        return [_text(content[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        contents, sizes = [piece._content for piece in pieces], [piece._sizes for piece in pieces]
        return cls(np.concatenate(contents), np.concatenate(sizes))

    def __len__(self) -> int:
        return len(self._sizes)


class PackedNumbers(Packed):
    """`Int64`, `Int32`, `UInt8`, and where `nulls` is given, Nullable of them; numbers are in the column's own type."""

    def __init__(self, numbers: NDArray[Any], nulls: Flags | None = None) -> None:
        self._numbers = numbers
        self._nulls = nulls

    @property
    def kind(self) -> str:
        name = _KINDS[self._numbers.dtype.str]
        return name if self._nulls is None else f"Nullable({name})"

    def native(self) -> bytes:
        return (b"" if self._nulls is None else self._nulls.tobytes()) + self._numbers.tobytes()

    def values(self) -> list[Any]:
        numbers: list[Any] = self._numbers.tolist()
        if self._nulls is None:
            return numbers
        return [None if is_null else number for number, is_null in zip(numbers, self._nulls.tolist(), strict=True)]

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        nulls = [piece._nulls for piece in pieces if piece._nulls is not None]
        return cls(np.concatenate([piece._numbers for piece in pieces]), np.concatenate(nulls) if nulls else None)

    def __len__(self) -> int:
        return len(self._numbers)


class PackedLists(Packed):
    """`Array(…)`: how many items each row has, and all items one after the other."""

    def __init__(self, counts: Longs, items: PackedTexts | PackedNumbers) -> None:
        self._counts = counts
        self._items = items

    @property
    def kind(self) -> str:
        return f"Array({self._items.kind})"

    def native(self) -> bytes:
        return np.cumsum(self._counts).astype("<u8").tobytes() + self._items.native()

    def values(self) -> list[Any]:
        items = self._items.values()
        ends = np.cumsum(self._counts).tolist()
        return [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        items: list[Any] = [piece._items for piece in pieces]
        return cls(np.concatenate([piece._counts for piece in pieces]), type(items[0]).joined(items))

    def __len__(self) -> int:
        return len(self._counts)


def _text(sized: bytes) -> str:
    """Without the length that stands before it."""
    head = 1
    while sized[head - 1] > 0x7F:
        head += 1
    return sized[head:].decode()
