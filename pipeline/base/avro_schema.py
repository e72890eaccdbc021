"""The part of Avro that the schemas here use, as small values that everything else is built from.

Null may only stand first in a union of two; there are no floats, enums, fixed or recursive types. A schema that uses
more is refused when it is loaded, not when the first record comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

PRIMITIVES = frozenset({"boolean", "int", "long", "string", "bytes"})


class Field(NamedTuple):
    """One field of a record. `repeats`: few different values, so the encoder remembers their bytes."""

    name: str
    type: Type
    repeats: bool


class Type(NamedTuple):
    """`kind` is a primitive, `array`, `map` or `record`; `item` is that of an array or of a map's values."""

    kind: str
    is_nullable: bool = False
    item: Type | None = None
    fields: tuple[Field, ...] = ()


class SchemaNotSupported(ValueError):
    """The schema uses a part of Avro that is not known here."""


def parse_type(schema: object, named: dict[str, Type], name: str) -> Type:
    """`name` is the field's, for the message of `SchemaNotSupported`."""
    found: Type | None = None
    match schema:
        case str() if schema in PRIMITIVES:
            found = Type(schema)
        case str() if schema in named:
            found = named[schema]
        case ["null", inner] if inner != "null":
            found = parse_type(inner, named, name)._replace(is_nullable=True)
        case {"type": "array", "items": item}:
            found = Type("array", item=parse_type(item, named, name))
        case {"type": "map", "values": item}:
            found = Type("map", item=parse_type(item, named, name))
        case {"type": "record", "name": str(record_name), "fields": [*_]}:
            found = named[record_name] = Type("record", fields=parse_record(cast("dict[str, object]", schema), named))
        case {"type": str(primitive)} if primitive in PRIMITIVES:
            found = Type(primitive)
    if found is None:
        raise SchemaNotSupported(f"field {name}: type {schema!r} is not one that is known here")
    return found


def parse_record(schema: Mapping[str, object], named: dict[str, Type] | None = None) -> tuple[Field, ...]:
    """The fields of a record schema, in order."""
    fields = schema["fields"]
    if not isinstance(fields, list) or not fields:
        raise SchemaNotSupported(f"record {schema.get('name')} has no fields")
    known = {} if named is None else named
    return tuple(
        Field(field["name"], parse_type(field["type"], known, field["name"]), bool(field.get("repeats")))
        for field in fields
    )
