"""What the Avro tests share: schemas as they lie in `schemas/`, and any record of them for Hypothesis."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import fastavro
from hypothesis import strategies as st

from pipeline.base.calendar import parse_time
from pipeline.base.resources_io import resource_path

SCHEMAS = resource_path("schemas")
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.avsc"))
Json = Any  # a schema or a value in JSON


def published_schema(name: str) -> Json:
    return json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))


def schema_of(name: str) -> Json:
    """The schema with named records written out wherever they are used again, for walking only."""
    return _written_out(published_schema(name), {})


def _written_out(schema: Json, named: dict[str, Json]) -> Json:
    match schema:
        case str():
            return named.get(schema, schema)
        case list():
            return [_written_out(part, named) for part in schema]
        case {"type": "record", "fields": fields}:
            out = {**schema, "fields": [{**field, "type": _written_out(field["type"], named)} for field in fields]}
            named[schema["name"]] = out
            return out
        case {"items": item}:
            return {**schema, "items": _written_out(item, named)}
        case {"values": item}:
            return {**schema, "values": _written_out(item, named)}
    return schema


def sample_of(name: str) -> dict[str, object]:
    """The golden sample as plain values: times in ms, bytes as bytes."""
    return from_readable(
        schema_of(name), json.loads((SCHEMAS / "samples" / f"{name}.json").read_text(encoding="utf-8"))
    )


def from_readable(schema: Json, value: Json) -> Any:  # noqa: PLR0911  (one for each kind of type)
    match schema:
        case ["null", inner]:
            return None if value is None else from_readable(inner, value)
        case {"logicalType": "timestamp-millis"}:
            return parse_time(value)
        case {"type": "array", "items": item}:
            return [from_readable(item, one) for one in value]
        case {"type": "map", "values": item}:
            return {key: from_readable(item, one) for key, one in value.items()}
        case {"type": "record", "fields": fields}:
            assert set(value) == {field["name"] for field in fields}
            return {field["name"]: from_readable(field["type"], value[field["name"]]) for field in fields}
        case "bytes":
            return base64.b64decode(value)
    return value


def as_values(schema: Json, value: Any) -> Any:
    """Dicts of records -> tuples in the order of the schema, as `encode_values` takes them."""
    match schema:
        case ["null", inner]:
            return None if value is None else as_values(inner, value)
        case {"type": "array", "items": item}:
            return [as_values(item, one) for one in value]
        case {"type": "record", "fields": fields}:
            return tuple(as_values(field["type"], value[field["name"]]) for field in fields)
    return value


def any_of(schema: Json) -> st.SearchStrategy[Any]:
    """Any value of a schema, big and odd ones too."""
    match schema:
        case ["null", inner]:
            return st.none() | any_of(inner)
        case {"type": "array", "items": item}:
            return st.lists(any_of(item), max_size=3)
        case {"type": "map", "values": item}:
            return st.dictionaries(any_of("string"), any_of(item), max_size=3)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: any_of(field["type"]) for field in fields})
        case {"type": str(primitive)}:
            return any_of(primitive)
    return {
        "string": st.text(max_size=80) | st.sampled_from(["", "user_out", "😀", "ü" * 70]),
        "bytes": st.binary(max_size=80),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
        "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70) | st.integers(10**12, 2 * 10**12),
    }[schema]


def without_logical_types(schema: Json) -> Json:
    if isinstance(schema, dict):
        return {key: without_logical_types(part) for key, part in schema.items() if key != "logicalType"}
    return [without_logical_types(part) for part in schema] if isinstance(schema, list) else schema


def by_fastavro(schema: Json, record: dict[str, object]) -> bytes:
    """The body alone, as an independent writer makes it; takes the schema as published."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(without_logical_types(schema)), record)
    return out.getvalue()
