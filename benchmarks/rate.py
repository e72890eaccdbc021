"""The pure part alone (charge and debit, records already decoded), and `pstn rate` on a file; CPU time, one core.

    python benchmarks/rate.py [--calls 40000] [--quick] [--series pure,tenants,prefixes,seen,file,memory]

Each line is a process of its own, so that none inherits the other's caches. The calls of a slice of 2,000 are decoded
before its clock starts; then it goes through `Ledger.apply`, which hands out its decisions as it does to the worker,
and `Ledger.adopt`. A figure is the median of the slices after a warm-up. Ratios are of the same in turns of a plain
loop timed beside each slice, because a shared machine is not equally fast all the time. The cyclic collector is set
as the worker sets it. Tenants are drawn like 1/rank (most calls belong to few), or evenly where it is said so;
numbers like 1/rank from 3,000 destinations of the deck, their last digits at random, so that hardly a number is
called twice, or (few numbers) from 5,000. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY, format_time, parse_time
from pipeline.base.ids import account_key, partition_of, user_key
from pipeline.base.record import InputRecord
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.charge.destination import find
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.charge.tariff import Deck, RateRow, Tariff
from pipeline.debit.ledger import Ledger, read
from pipeline.debit.seen import CONTENT_BYTES, ID_BYTES
from pipeline.debit.slices import Applied, Read
from pipeline.debit.stored import encode_account, encode_user

TARIFF = "acs_proxy_usd"
NOW_MS = parse_time("2026-03-02T12:00:00Z")
SLICE = 2_000
DESTINATION_COUNT = 3_000
MIB = 2**20
TERMS = {
    "country": "US",
    "currency": "USD",
    "tariff": TARIFF,
    "agreement": "prepaid",
    "overage_enabled": False,
    "dial_out_policy": "DialoutCPCandPSTNInternational",
}
console = Console(stderr=True)


def tenant_name(number: int) -> str:
    return f"tenant-{number:07d}"


def opening(tenant: str) -> list[dict[str, object]]:
    """Commands that make a tenant with one user, a plan, dial-out minutes and plenty of money."""
    head: dict[str, object] = {"tenant_id": tenant, "issued_by": "bench"}
    licences = ["MCOPSTN1", "MCOMEETADV", "MCOPSTNPP"]
    funds = {"amount_micros": 10**12, "currency": "USD", "purchased_at": NOW_MS, "payment_method": "card"}
    return [
        head | {"command_id": "c1", "kind": "open_account"} | TERMS,
        head | {"command_id": "c2", "kind": "set_user", "user_id": "u", "licences": licences}
        | {"is_resource_account": False},
        head | {"command_id": "c3", "kind": "add_funds", "reference": "bench"} | funds,
    ]  # fmt: skip


class World:
    """Tables, the ledgers of all partitions, and the numbers that are called."""

    def __init__(self, *, tenants: int, partitions: int, prefixes: int, seed: int = 7) -> None:
        self.rng = random.Random(seed)
        self.tenants, self.partitions = tenants, partitions
        tables = load_tables(resource_path("rating_tables"))
        self.stems = self._stems(tables)
        self.tables = with_prefixes(tables, prefixes, self.rng) if prefixes else tables
        if prefixes:
            self.stems = self._stems(self.tables)
        self.ledgers = [Ledger(number, partitions, self.tables, Rules()) for number in range(partitions)]
        self.offsets = [0] * partitions
        self.outcomes: Counter[str] = Counter()
        self.turns: list[float] = []
        """Cost of a call in turns of a plain loop, measured beside each slice."""
        self.few: list[str] = []
        """Numbers that are called again and again; empty: hardly one twice."""
        self._open(tenants)

    def _stems(self, tables: Tables) -> list[str]:
        """Prefixes below which a number, whatever its last digits, is geographic or mobile and has a row."""
        deck = tables.tariffs[TARIFF].deck_at(NOW_MS)
        assert deck is not None
        prefixes = sorted({row.prefix for row in deck.rows() if row.direction == "outbound"})
        stems = []
        for prefix in self.rng.sample(prefixes, len(prefixes)):
            found = [find(self._number(prefix), deck) for _ in range(3)]
            if all(match.row and facts and facts.number_class in {"geographic", "mobile"} for facts, match in found):
                stems.append(prefix)
                if len(stems) == DESTINATION_COUNT:
                    break
        return stems

    def _number(self, stem: str) -> str:
        """A number of the usual length of its country: 11 digits, or 12 in most of Europe."""
        size = 12 if stem[0] in "349" else 11
        return "+" + (stem + f"{self.rng.randrange(10**8):08d}")[: max(size, len(stem) + 2)]

    def _open(self, count: int) -> None:
        """One tenant by commands; the others are its records under other names, as a restore would load them."""
        model = tenant_name(0)
        ledger = Ledger(0, 1, self.tables, Rules())
        commands = [codec("account_command").encode(each) for each in opening(model)]
        records = [InputRecord(True, "pstn.account-commands", 0, n, NOW_MS, v) for n, v in enumerate(commands)]
        ledger.adopt(ledger.apply_slice(records))
        found, held = ledger.state.account(model), ledger.state.user(model, "u")
        assert found is not None and held is not None and found.balance_micros == 10**12
        account, user, name = encode_account(found), encode_user(held), model.encode()
        for tenant in map(tenant_name, range(count)):
            state, new = self.ledgers[partition_of(tenant, self.partitions)].state, tenant.encode()
            state.load(account_key(tenant), account.replace(name, new))
            state.load(user_key(tenant, "u"), user.replace(name, new))

    def calls(self, count: int, first: int, *, evenly: bool) -> Iterator[tuple[int, list[Read]]]:
        """Slices of decoded calls, each of one partition: 70 % own calls, 20 % dial-out, 10 % inbound."""
        rng, encode = self.rng, codec("cdr").encode_values
        waiting: list[list[Read]] = [[] for _ in self.ledgers]
        numbers = range(self.tenants)
        ranks = None if evenly else list(accumulate(1 / rank for rank in range(1, self.tenants + 1)))
        stems = list(accumulate(1 / rank for rank in range(1, len(self.stems) + 1)))
        owners = rng.choices(numbers, cum_weights=ranks, k=count)
        called = rng.choices(self.stems, cum_weights=stems, k=count)
        for number, (owner, stem) in enumerate(zip(owners, called, strict=True), first):
            tenant = tenant_name(owner)
            partition = partition_of(tenant, self.partitions)
            value = encode(self._call(number, tenant, stem))
            offset = self.offsets[partition]
            self.offsets[partition] += 1
            record = InputRecord(False, "pstn.cdrs", partition, offset, NOW_MS + number // 100, value)
            waiting[partition].append(read(record))
            if len(waiting[partition]) == SLICE:
                yield partition, waiting[partition]
                waiting[partition] = []
        yield from ((partition, rest) for partition, rest in enumerate(waiting) if rest)

    def _call(self, number: int, tenant: str, stem: str) -> tuple[object, ...]:
        kind = self.rng.random()
        call_type = "user_out" if kind < 0.7 else "conf_out" if kind < 0.9 else "user_in"
        other = self.rng.choice(self.few) if self.few else self._number(stem)
        caller, callee = (other, "+12065550100") if call_type == "user_in" else ("+12065550100", other)
        return (
            *(f"{number:08x}-5a5a-4b4b-8c8c-{number:012x}", f"call-{number}", None, tenant, "u", call_type),
            *("Subscriber", caller, callee, NOW_MS - self.rng.randrange(3_600_000)),
            *(max(1, int(self.rng.lognormvariate(4.6, 1.1))), None, "Microsoft", "microsoft"),
        )

    def see(self, count: int) -> None:
        """Makes the ledgers remember calls of the last week, as a restore of seen-calls would."""
        generator = np.random.default_rng(3)
        each, chunk = count // self.partitions, 16_384
        for ledger in self.ledgers:
            for done in range(0, each, chunk):
                size = min(chunk, each - done)
                since_ms = 7 * MS_PER_DAY * (each - done) // each
                nows = np.full(size, NOW_MS - since_ms, dtype="<i8")
                ids, contents = generator.bytes(ID_BYTES * size), generator.bytes(CONTENT_BYTES * size)
                ledger.seen.load(
                    codec("seen_calls").encode_values((int(nows[0]), int(nows[0]), ids, contents, nows.tobytes()))
                )

    def run(self, slices: Iterable[tuple[int, list[Read]]]) -> list[float]:
        """CPU microseconds a call of each slice; making and decoding the calls is not counted."""
        costs = []
        for partition, inputs in slices:
            ledger = self.ledgers[partition]
            started = time.process_time()
            ledger.adopt(ledger.apply(inputs, self._note))
            costs.append((time.process_time() - started) * 1e6 / len(inputs))
            self.turns.append(costs[-1] * 1_000 / loop_ns())
        return costs

    def _note(self, decided: list[Applied]) -> None:
        """Takes decisions as they are made, in place of the worker, which encodes them."""
        self.outcomes.update([applied.call.outcome for applied in decided if applied.call is not None])


def with_prefixes(tables: Tables, count: int, rng: random.Random) -> Tables:
    """The same tables with a deck of `count` rows: the shipped ones and longer ones below them, at other prices."""
    tariff = tables.tariffs[TARIFF]
    deck = tariff.deck_at(NOW_MS)
    assert deck is not None
    rows = {(row.prefix, row.direction, row.number_class): row for row in deck.rows()}
    parents = [row for row in rows.values() if row.direction == "outbound" and len(row.prefix) <= 6]
    while len(rows) < count:
        for parent in rng.choices(parents, k=min(100_000, count - len(rows))):
            prefix = parent.prefix + str(rng.randrange(10 ** (9 - len(parent.prefix)))).zfill(9 - len(parent.prefix))
            row = RateRow(prefix, "outbound", "", parent.destination, parent.iso2, rng.randrange(1, 10**6), 0)
            rows[prefix, "outbound", ""] = row
    made = Deck(tariff=TARIFF, valid_from_ms=0, table_version=(TARIFF, "1970-01-01", "0" * 12), rows=rows.values())
    others = [each for each in tables.tariffs.values() if each.name != TARIFF]
    large = Tariff(name=TARIFF, currency="USD", kind="subscription", description="", source="", decks=[made])
    return Tables(
        tariffs=[large, *others],
        licences=tables.licences.values(),
        countries=tables.countries.values(),
        allowances=dict(tables.allowances()),
        conferencing=dict(tables.conferencing_allowances()),
    )


def loop_ns() -> float:
    """Nanoseconds of one turn of a plain loop: how fast this machine is at this moment."""
    started, total = time.process_time(), 0
    for number in range(20_000):
        total += number & 3
    return (time.process_time() - started) * 1e9 / 20_000


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def settle_collector() -> None:
    """As the worker does after a restore (`pipeline/app.py`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 10, 20)


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def measure(
    *,
    calls: int,
    tenants: int,
    partitions: int = 1,
    prefixes: int = 0,
    seen: int = 0,
    evenly: bool = False,
    numbers: int = 0,
) -> dict[str, float]:
    """One world; CPU microseconds a call after a warm-up of a half."""
    empty_mib = rss_mib()
    world = World(tenants=tenants, partitions=partitions, prefixes=prefixes)
    world.few = [world._number(world.rng.choice(world.stems)) for _ in range(numbers)]
    if seen:
        world.see(seen)
    world_mib = rss_mib() - empty_mib
    settle_collector()
    world.run(world.calls(calls // 2, 0, evenly=evenly))
    world.outcomes.clear()
    world.turns.clear()
    costs = world.run(world.calls(calls, calls // 2, evenly=evenly))
    assert sum(world.outcomes.values()) == calls
    return {
        "us": median(costs),
        "us_mean": sum(costs) / len(costs),
        "us_best": min(costs),
        "turns": median(world.turns),
        "world_mib": world_mib,
        "unpriced": world.outcomes["free_call"] / calls,
    }


def measure_memory(*, tenants: int, calls: int) -> dict[str, float]:
    """What accounts take: encoded, one user each, and with the decoded records that calls leave behind."""
    World(tenants=1, partitions=12, prefixes=0)
    before = rss_mib()
    world = World(tenants=tenants, partitions=12, prefixes=0)
    loaded = rss_mib() - before
    for first in range(0, calls, 20_000):
        world.run(world.calls(20_000, first, evenly=True))
    gc.collect()
    return {"loaded_mib": loaded, "used_mib": rss_mib() - before, "process_mib": rss_mib()}


def measure_file(*, calls: int) -> dict[str, float]:
    """`pstn rate` as a person runs it: JSON lines in, five files out; without the time that no line at all takes."""
    world = World(tenants=1_000, partitions=12, prefixes=0)
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty.jsonl", Path(folder) / "calls.jsonl"
        at, names = format_time(NOW_MS), codec("cdr").fields
        stems = list(accumulate(1 / rank for rank in range(1, len(world.stems) + 1)))
        owners = [world.rng.randrange(1_000) for _ in range(calls)]
        with full.open("w") as out:
            for tenant in map(tenant_name, range(1_000)):
                for command in opening(tenant):
                    shown = command | ({"purchased_at": at} if "purchased_at" in command else {})
                    out.write(json.dumps({"at": at, "command": shown}) + "\n")
            for number, owner in enumerate(owners):
                stem = world.rng.choices(world.stems, cum_weights=stems)[0]
                cdr = dict(zip(names, world._call(number, tenant_name(owner), stem), strict=True))
                cdr["start_time"] = format_time(int(str(cdr["start_time"])))
                out.write(json.dumps({"at": at, "cdr": cdr}) + "\n")
        empty.write_text("".join(islice(full.open(), 3)))
        start_s, total_s = (_cpu_of_rate(path, Path(folder) / "out") for path in (empty, full))
        rated = sum(1 for _ in (Path(folder) / "out" / "rated_calls.jsonl").open())
        assert rated == calls, (rated, calls)
    return {"us": (total_s - start_s) * 1e6 / calls, "start_s": start_s}


def _cpu_of_rate(scenario: Path, out: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "pipeline", "rate", str(scenario), "--out", str(out)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def plan(calls: int, quick: bool) -> list[tuple[str, str, str, dict[str, object]]]:
    """Series, label, what it is compared with, and the arguments."""
    tenants = (1_000, 20_000) if quick else (1_000, 100_000, 1_000_000)
    prefixes = (100_000,) if quick else (100_000, 1_000_000)
    seen = (1_000_000,) if quick else (1_000_000, 10_000_000)
    lines: list[tuple[str, str, str, dict[str, object]]] = [("pure", "pure", "", {"tenants": 1_000})]
    lines.append(("pure", "pure, few numbers", "pure", {"tenants": 1_000, "numbers": 5_000}))
    for count in tenants:
        base = "" if count == tenants[0] else f"tenants {tenants[0]:,}"
        lines.append(("tenants", f"tenants {count:,}", base, {"tenants": count, "partitions": 12}))
    arguments: dict[str, object] = {"tenants": tenants[-1], "partitions": 12, "evenly": True}
    lines.append(("tenants", f"tenants {tenants[-1]:,}, evenly", f"tenants {tenants[0]:,}", arguments))
    lines += [("prefixes", f"prefixes {n:,}", "pure", {"tenants": 1_000, "prefixes": n}) for n in prefixes]
    lines += [("seen", f"seen {n:,}", "pure", {"tenants": 1_000, "seen": n}) for n in seen]
    lines = [(series, label, base, {"calls": calls} | arguments) for series, label, base, arguments in lines]
    lines.append(("file", "pstn rate FILE", "", {"calls": calls // 2}))
    lines.append(("memory", "memory", "", {"tenants": tenants[-1], "calls": 80_000}))
    return lines


def run_apart(series: str, arguments: dict[str, object]) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps([series, arguments])]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=40_000, help="timed calls of each line")
    parser.add_argument("--quick", action="store_true", help="small sizes only: under half a minute")
    parser.add_argument("--series", default="pure,tenants,prefixes,seen,file,memory", help="which, with commas")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        series, arguments = json.loads(options.one)
        measures = {"file": measure_file, "memory": measure_memory}
        print(json.dumps(measures.get(series, measure)(**arguments)))
        return
    wanted = {"pure", *options.series.split(",")}
    calls = min(options.calls, 40_000) if options.quick else options.calls
    results: dict[str, dict[str, float]] = {}
    table = Table(title=f"{os.cpu_count()} cores, Python {sys.version.split()[0]}", title_justify="left")
    for name in ("", "us a call", "calls/s", "against", "ratio", "MiB"):
        table.add_column(name, justify="left" if name in ("", "against") else "right")
    for series, label, base, arguments in plan(calls, options.quick):
        if series not in wanted:
            continue
        result = results[label] = run_apart(series, arguments)
        if "us" in result:
            result["calls_s"] = round(1e6 / result["us"])
            if base in results:
                unit = "turns" if "turns" in result else "us"
                result["ratio"] = result[unit] / results[base][unit]
        console.print(label, " ".join(f"{name}={value:,.2f}" for name, value in result.items()), soft_wrap=True)
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else ""
        us, rate = (f"{result['us']:.2f}", f"{result['calls_s']:,}") if "us" in result else ("", "")
        memory = result.get("used_mib", result.get("world_mib"))
        table.add_row(label, us, rate, base, ratio, "" if memory is None else f"{memory:,.0f}")
    console.print(table)
    print(
        json.dumps({label: {name: round(value, 3) for name, value in each.items()} for label, each in results.items()})
    )


if __name__ == "__main__":
    main()
