"""The embedded warehouse belongs to one process at a time, and every process can read it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded.clickhouse_io import open_folder
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import migrate, open_store

_OWNER = """
import sys
from pathlib import Path
from pipeline.embedded.clickhouse_io import open_folder
store = open_folder(Path(sys.argv[1]))
store.execute("CREATE TABLE IF NOT EXISTS numbers_kept (n Int64) ENGINE = MergeTree ORDER BY n")
store.execute("INSERT INTO numbers_kept SELECT number FROM numbers(300000)")
print("ready", flush=True)
sys.stdin.read()
store.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder open; it ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def numbers(store: Store) -> int:
    [(count, total)] = store.query("SELECT count(), sum(n) FROM numbers_kept").rows
    assert total == 299_999 * 300_000 // 2
    return int(str(count))


def test_a_report_reads_while_a_worker_has_the_folder(folder: Path, owner: subprocess.Popen[str]) -> None:
    store = open_folder(folder, for_reading=True)
    assert numbers(store) == 300_000
    assert sum(1 for _ in store.query("SELECT n, toString(n) FROM numbers_kept").rows) == 300_000


def test_a_report_opens_the_folder_itself_when_nobody_has_it(folder: Path, owner: subprocess.Popen[str]) -> None:
    owner.communicate("")
    store = open_folder(folder, for_reading=True)
    assert numbers(store) == 300_000
    store.close()


PARTS = "SELECT count() FROM system.parts WHERE active AND table = 'numbers_kept'"


def test_a_report_does_not_do_the_loaders_merging(folder: Path) -> None:
    """Opened for one answer, the engine began to merge what the last loader had left: memory, and a core."""
    loader = open_folder(folder)
    loader.execute("CREATE TABLE numbers_kept (n Int64) ENGINE = MergeTree ORDER BY n")
    loader.execute("SYSTEM STOP MERGES")
    for _ in range(8):
        loader.execute(
            "INSERT INTO numbers_kept SELECT rand64() FROM numbers(1000000) SETTINGS max_block_size = 1000000"
        )
    [(left,)] = loader.query(PARTS).rows
    loader.close()
    report = open_folder(folder, for_reading=True)
    assert list(report.query("SELECT sleep(3)").rows) == [(0,)]
    assert list(report.query(PARTS).rows) == [(left,)]
    loader = open_folder(folder)
    deadline_s = time.monotonic() + 60
    while list(loader.query(PARTS).rows) == [(left,)] and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert list(loader.query(PARTS).rows) != [(left,)], "a loader merges again"
    loader.close()


def test_the_engine_comes_without_the_packages_it_could_use(folder: Path) -> None:
    """40 MB of a report's memory. What needs them can still import them."""
    code = (
        "import sys; from pathlib import Path; from pipeline.embedded.clickhouse_io import open_folder;"
        " open_folder(Path(sys.argv[1])).close();"
        " assert not [name for name in sys.modules if name.startswith('pyarrow')]; import pyarrow.parquet"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_a_report_that_is_still_shown_does_not_keep_the_folder_from_a_worker(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    """A pager left open at lunch held the lock, and the loader started meanwhile gave up."""
    owner.communicate("")
    report = open_folder(folder, for_reading=True)
    shown = report.query("SELECT n FROM numbers_kept ORDER BY n").rows
    assert next(shown) == (0,)
    worker = open_folder(folder, wait_s=0)
    worker.execute("INSERT INTO numbers_kept SELECT 300000")
    assert sum(1 for _ in shown) == 299_999, "the answer is of the time of the question"
    [(count,)] = report.query("SELECT count() FROM numbers_kept").rows
    assert count == 300_001, "the next question goes to the worker"
    worker.close()
    report.close()


def test_a_killed_owner_leaves_nothing_that_blocks_the_next(folder: Path, owner: subprocess.Popen[str]) -> None:
    """Its file with port and token is still there; its lock went with it."""
    owner.kill()
    owner.wait()
    assert (folder / "owner.json").exists()
    store = open_folder(folder)
    assert numbers(store) == 300_000
    store.close()


def test_another_process_may_not_write(folder: Path, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreAway, match="is open in another process"):
        open_folder(folder, wait_s=0.3)
    store = open_folder(folder, for_reading=True)
    for statement in ("INSERT INTO numbers_kept SELECT 1", "DROP TABLE numbers_kept", "SET readonly = 0"):
        with pytest.raises(StoreRefused):
            list(store.query(statement).rows)
    with pytest.raises(StoreRefused, match="it was opened for reading"):
        migrate(store)
    assert numbers(store) == 300_000


def test_only_who_can_read_the_folder_gets_an_answer(folder: Path, owner: subprocess.Popen[str]) -> None:
    """Every user of the machine reaches the loopback; call records are not for every user."""
    file = folder / "owner.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    words = json.loads(file.read_text())
    file.write_text(json.dumps(words | {"token": "guessed"}))
    with pytest.raises(StoreAway):
        open_folder(folder, for_reading=True, wait_s=0.3).query("SELECT 1")


def test_an_owner_that_dies_in_the_middle_of_an_answer_is_an_error_not_a_short_report(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    store = open_folder(folder, for_reading=True)
    answer = store.query("SELECT n, repeat('x', 500) FROM numbers_kept")
    assert next(answer.rows)[1] == "x" * 500
    owner.kill()
    owner.wait()
    with pytest.raises(StoreAway):
        for _ in answer.rows:
            pass


def test_an_error_in_the_middle_of_an_answer_is_an_error_not_a_short_report(
    folder: Path, owner: subprocess.Popen[str]
) -> None:
    store = open_folder(folder, for_reading=True)
    with pytest.raises((StoreAway, StoreRefused)):
        list(store.query("SELECT throwIf(n = 250000) FROM numbers_kept ORDER BY n").rows)


def test_reading_a_folder_without_a_warehouse_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="there is no warehouse in"):
        open_store(f"chdb:{tmp_path / 'nothing'}", for_reading=True)
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused, match="no warehouse can be kept in"):
        open_store(f"chdb:{tmp_path / 'file' / 'warehouse'}")


def test_a_temporary_folder_without_room_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`No space left on device` sends people to the warehouse's disk."""
    open_folder(folder).close()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "full"))
    store = open_store(f"chdb:{folder}", for_reading=True)
    with pytest.raises(StoreRefused, match=r"full has no room for an answer \(.*\): set TMPDIR to another folder"):
        store.query("SELECT number FROM numbers(300000)")


def test_a_slow_question_does_not_hold_up_inserts_or_other_questions(folder: Path) -> None:
    """An analyst's scan must not stop the loader."""
    store = open_folder(folder)
    store.execute("CREATE TABLE kept (n Int64) ENGINE = MergeTree ORDER BY n")
    slow = store.query("SELECT number FROM system.numbers")
    next(slow.rows)
    done = threading.Event()

    def others() -> None:
        store.execute("INSERT INTO kept SELECT number FROM numbers(10)")
        assert list(store.query("SELECT count() FROM kept").rows) == [(10,)]
        done.set()

    threading.Thread(target=others, daemon=True).start()
    assert done.wait(20)
    del slow
    store.close()
