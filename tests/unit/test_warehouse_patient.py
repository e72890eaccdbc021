"""A warehouse that is away for a moment is asked again, and bad news comes within seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pipeline.warehouse import patient_io
from pipeline.warehouse.patient_io import PatientStore
from pipeline.warehouse.store import ColumnType, Rows, StoreAway, StoreRefused


class FlakyStore:
    """Fails as the list says, then answers."""

    name = "flaky"

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.is_closed = False

    def query(self, sql: str) -> Rows:
        if self.failures:
            raise self.failures.pop(0)
        return Rows(("sql",), iter([(sql,)]))

    def engine_version(self) -> str:
        return "26.9.2.1"

    def create_database(self) -> None: ...

    def execute(self, sql: str) -> None:
        raise StoreAway("away")

    def insert(self, table: str, columns: Sequence[ColumnType], data: Sequence[Sequence[object]]) -> None:
        raise StoreAway("away")

    def close(self) -> None:
        self.is_closed = True


class Opening:
    """What `PatientStore` opens, again and again."""

    def __init__(self, *failures: Exception, of_opening: Sequence[Exception] = ()) -> None:
        self.failures, self.of_opening = list(failures), list(of_opening)
        self.stores: list[FlakyStore] = []
        self.told: list[str] = []

    def __call__(self) -> FlakyStore:
        if self.of_opening:
            raise self.of_opening.pop(0)
        self.stores.append(FlakyStore(self.failures))
        return self.stores[-1]

    def patient(self) -> PatientStore:
        return PatientStore(self, self.told.append)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_io, "_FIRST_WAIT_S", 0.001)


def test_what_comes_back_in_time_is_asked_again_through_a_new_store() -> None:
    """An embedded warehouse may have changed its owner meanwhile: the old store would ask the dead one."""
    opening = Opening(StoreAway("one"), StoreAway("two"))
    store = opening.patient()
    assert list(store.query("SELECT 1").rows) == [("SELECT 1",)]
    assert opening.told == ["one", "two"]
    assert [each.is_closed for each in opening.stores] == [True, True, False]
    store.close()
    assert opening.stores[-1].is_closed


def test_what_stays_away_is_told_after_four_tries() -> None:
    opening = Opening(*[StoreAway(f"try {number}") for number in range(9)])
    with pytest.raises(StoreAway, match="try 3"):
        opening.patient().query("SELECT 1")
    assert len(opening.told) == 3


def test_a_refusal_is_told_at_once() -> None:
    opening = Opening(StoreRefused("no such table"))
    with pytest.raises(StoreRefused, match="no such table"):
        opening.patient().query("SELECT 1")
    assert opening.told == []


def test_a_store_that_cannot_be_opened_yet_is_waited_for_too() -> None:
    opening = Opening(of_opening=[StoreAway("taken")])
    assert opening.patient().name == "flaky"
    assert opening.told == ["taken"]


def test_an_answer_that_breaks_off_is_not_begun_again() -> None:
    """Its first rows are in the file already: they would be there twice."""

    def rows() -> Iterator[tuple[object, ...]]:
        yield (1,)
        raise StoreAway("in the middle")

    opening = Opening()
    store = opening.patient()
    opening.stores[0].query = lambda sql: Rows(("n",), rows())  # type: ignore[method-assign]
    with pytest.raises(StoreAway, match="in the middle"):
        list(store.query("SELECT n").rows)
    assert opening.told == []


def test_what_changes_something_is_tried_once() -> None:
    """Whether a statement that broke off was done is not known here."""
    opening = Opening()
    store = opening.patient()
    for change in (lambda: store.execute("x"), lambda: store.insert("t", [], [])):
        with pytest.raises(StoreAway):
            change()
    assert opening.told == []
