"""The list of remedies that `make sabotage` takes out fits the code, the tests and the documentation."""

from __future__ import annotations

import pytest
import sabotage


@pytest.mark.parametrize("remedy", sabotage.REMEDIES, ids=lambda remedy: remedy.sentence)
def test_a_remedy_is_where_the_list_says(remedy: sabotage.Remedy) -> None:
    """Code that moved would leave a remedy that nobody takes out any more."""
    assert (sabotage.ROOT / remedy.file).read_text(encoding="utf-8").count(remedy.old) == 1
    test = remedy.test.partition("[")[0]
    assert f"def {test}(" in (sabotage.ROOT / "tests/integration/test_ownership.py").read_text(encoding="utf-8")


def test_the_documentation_shows_every_remedy() -> None:
    """An auditor reads the table, not the list."""
    assert sabotage.table() in (sabotage.ROOT / "docs/ownership.md").read_text(encoding="utf-8"), (
        "put `python -c 'import sabotage; print(sabotage.table())'`, run in tests/, into docs/ownership.md"
    )
