"""The docs page: one HTML page made from the OpenAPI document, without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{background:#f4f4f4;padding:.8rem;overflow-x:auto}
h2{border-top:1px solid #ddd;padding-top:1rem;font-size:1.05rem}.method{display:inline-block;min-width:4.5rem;
font-weight:700}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}pre{background:#262626}h2{border-color:#444}}"""

# Any: parts of an OpenAPI document.
Json = Mapping[str, Any]


def docs_html(document: Json) -> str:
    """The page. `document`: OpenAPI 3.1."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))}</p>",
        "<p>For programs: <a href='/openapi.json'>/openapi.json</a> (OpenAPI 3.1).</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(document, path, method, operation)
    return "\n".join(parts) + "</html>"


def _operation(document: Json, path: str, method: str, operation: Json) -> Iterator[str]:
    yield f"<h2 id='{escape(operation['operationId'])}'><span class=method>{method.upper()}</span> "
    yield f"<code>{escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>parameter<th>in<th>meaning</tr>"
        for parameter in parameters:
            meaning = parameter.get("description") or parameter["schema"].get("description", "")
            name = escape(parameter["name"])
            yield f"<tr><td><code>{name}</code><td>{parameter['in']}<td>{escape(meaning)}</tr>"
        yield "</table>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        schema = _resolved(document, content["schema"])
        required = set(schema.get("required", ()))
        yield "<table><tr><th>field<th>type<th>&nbsp;</tr>"
        for name, field in schema.get("properties", {}).items():
            needed = (
                "required" if name in required else f"default <code>{escape(json.dumps(field.get('default')))}</code>"
            )
            words = f"{needed}; {escape(field['description'])}" if "description" in field else needed
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_type(field))}<td>{words}</tr>"
        yield "</table>"
    answers = ", ".join(sorted(operation.get("responses", {})))
    yield f"<p>Answers: {escape(answers)}</p>"


def _resolved(document: Json, schema: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _type(field: Json) -> str:
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type(each) for each in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type", "object"))
