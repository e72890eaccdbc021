"""The schemas as published: every field explained, a sample of each, and old messages readable for ever."""

from __future__ import annotations

import json

import pytest

from pipeline.base.avro import codec, fingerprint_of
from tests.avro_values import NAMES, SCHEMAS, published_schema, sample_of, schema_of

CONTRACT = {
    "cdr", "account_command", "rated_call", "account_event", "ledger_entry", "rejected", "checkpoint", "seen_calls",
    "account", "user", "month_pools", "spent_lot", "refund",
    "journal_checkpoint", "notice", "invoice",
}  # fmt: skip


def records_in(schema: object) -> list[dict]:
    if isinstance(schema, dict):
        own = [schema] if schema.get("type") == "record" else []
        return own + [found for part in schema.values() for found in records_in(part)]
    return [found for part in schema for found in records_in(part)] if isinstance(schema, list) else []


def listed_fingerprints() -> dict[str, list[str]]:
    """Record -> its fingerprints, oldest first, from `schemas/fingerprints.txt`."""
    listed: dict[str, list[str]] = {}
    for line in (SCHEMAS / "fingerprints.txt").read_text().splitlines():
        name, fingerprint = line.split()
        listed.setdefault(name, []).append(fingerprint)
    return listed


def breaks(old: object, new: object, where: str) -> list[str]:
    """Why a reader of `new` could not read each message of `old`; stricter than Avro's own rules."""
    if isinstance(new, list) and not isinstance(old, list):
        return breaks(old, new[1], where)
    if isinstance(old, list) and isinstance(new, list):
        return breaks(old[1], new[1], where)
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type") == "record":
        former = {field["name"]: field for field in old["fields"]}
        found = [] if old["name"] == new["name"] else [f"{where}: another name"]
        for field in new["fields"]:
            if field["name"] in former:
                found += breaks(former[field["name"]]["type"], field["type"], f"{where}.{field['name']}")
            elif "default" not in field:
                found.append(f"{where}.{field['name']}: new without a default")
        gone = former.keys() - {field["name"] for field in new["fields"]}
        return found + [f"{where}.{name}: taken away" for name in sorted(gone)]
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type") in ("array", "map"):
        part = "items" if old["type"] == "array" else "values"
        return breaks(old[part], new[part], where)
    same = old == new or (old, new) == ("int", "long")
    return [] if same else [f"{where}: {old!r} became {new!r}"]


def test_every_record_of_the_contract_has_a_schema():
    """A record without a schema could not be read by anybody else."""
    assert set(NAMES) == CONTRACT


@pytest.mark.parametrize("name", NAMES)
def test_every_record_and_field_is_explained(name):
    """The schema is all the documentation that a consumer in another language gets."""
    for record in records_in(published_schema(name)):
        assert record.get("doc")
        assert [field["name"] for field in record["fields"] if not field.get("doc", "").endswith(".")] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_sample_is_what_the_codec_writes_and_reads(name):
    """A change of these bytes is a change for every consumer: it must be meant."""
    sample = sample_of(name)
    written = codec(name).encode(sample)
    golden = bytes.fromhex((SCHEMAS / "samples" / f"{name}.avro.hex").read_text())
    assert written.hex() == golden.hex()
    assert codec(name).decode(golden) == sample


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_says_something_about_each_kind_of_field(name):
    """A sample of nothing but nulls and zeros would pass with most mistakes in a schema."""
    sample = sample_of(name)
    assert sum(1 for value in sample.values() if value) * 2 > len(sample) or name == "account_command"


@pytest.mark.parametrize("name", NAMES)
def test_the_newest_schema_is_the_last_one_listed(name):
    """A schema that changed without its predecessor being kept would make kept messages unreadable."""
    newest = fingerprint_of(published_schema(name)).hex()
    listed = listed_fingerprints().get(name, [])
    assert listed, f"append to schemas/fingerprints.txt: {name} {newest}"
    assert listed[-1] == newest, (
        f"{name}.avsc changed: keep the old one as schemas/history/{name}/{listed[-1]}.avsc "
        f"and append to schemas/fingerprints.txt: {name} {newest}"
    )


def test_every_listed_schema_is_kept_and_compatible():
    """Topics hold messages for weeks, the credit table for ever."""
    for name, listed in listed_fingerprints().items():
        newest = published_schema(name)
        kept = {path.stem: json.loads(path.read_text()) for path in (SCHEMAS / "history" / name).glob("*.avsc")}
        assert sorted(kept) == sorted(listed[:-1]), name
        for fingerprint, old in kept.items():
            assert fingerprint_of(old).hex() == fingerprint
            assert breaks(old, newest, name) == []


def test_changes_that_would_break_a_reader_are_found():
    """The check itself: each of these once slipped through somewhere."""
    old = schema_of("cdr")

    def changed(index: int, **parts: object) -> dict:
        fields = [dict(field) for field in old["fields"]]
        fields[index].update(parts)
        return {**old, "fields": fields}

    assert breaks(old, old, "cdr") == []
    assert breaks(old, changed(0, doc="other words"), "cdr") == []
    assert breaks(old, changed(10, type="long"), "cdr") == []
    assert breaks(old, changed(0, type=["null", "string"]), "cdr") == []
    added = {"name": "leg", "type": "int", "doc": "x"}
    assert breaks(old, {**old, "fields": [*old["fields"], {**added, "default": 0}]}, "cdr") == []
    assert breaks(old, {**old, "fields": [*old["fields"], added]}, "cdr") == ["cdr.leg: new without a default"]
    assert breaks(old, {**old, "fields": old["fields"][1:]}, "cdr") == ["cdr.usage_id: taken away"]
    assert breaks(old, changed(1, type="string"), "cdr") != []
    assert breaks(old, changed(9, type="string"), "cdr") != []
    assert breaks(old, changed(0, name="id"), "cdr") != []
    assert breaks(old, {**old, "name": "Call"}, "cdr") == ["cdr: another name"]


def test_a_rated_call_begins_with_the_fields_of_the_cdr():
    """So its body may begin with the CDR's own bytes, untouched."""

    def plain(field: dict) -> dict:
        return {key: part for key, part in field.items() if key != "repeats"}

    cdr, rated = schema_of("cdr")["fields"], schema_of("rated_call")["fields"]
    assert [plain(field) for field in rated[: len(cdr)]] == [plain(field) for field in cdr]
    assert rated[len(cdr)]["name"] == "direction"
