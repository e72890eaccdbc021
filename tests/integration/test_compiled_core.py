"""The compiled core is the same source; it must say the same bytes. Its own tests run against it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIECES = ("tests", "rating_tables", "schemas", "docs", "pyproject.toml")
CORE_TESTS = ("charge_steps", "debit_rules", "debit_seen", "debit_slices", "decode", "examples", "golden", "oracle")
CORE_TESTS += ("packed",)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiled package, and beside it the tests, which find it before any other."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: install gcc to test the compiled core; the plain one is tested everywhere")
    subprocess.run([ROOT / "deploy" / "build-compiled"], check=True)
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copytree(ROOT / "build" / "compiled", folder, dirs_exist_ok=True)
    for name in PIECES:
        piece = ROOT / name
        (shutil.copytree if piece.is_dir() else shutil.copy)(piece, folder / name)
    return folder


def test_the_core_is_compiled_indeed(compiled):
    """Else the next test would show nothing."""
    code = "import pipeline.debit.apply as core, pipeline.charge.rate as rate; print(core.__file__, rate.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=compiled, capture_output=True, text=True, check=True)
    assert [Path(each).suffix for each in found.stdout.split()] == [".so", ".so"]
    assert all(str(compiled) in each for each in found.stdout.split())


def test_the_compiled_core_decides_as_the_plain_one_and_as_the_oracle(compiled):
    """Golden files byte for byte, every rule's unit test, and invented histories against the oracle."""
    chosen = [f"tests/unit/test_{name}.py" for name in CORE_TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ledger-steps", "1500"]
    command += [*chosen, "tests/property"]
    done = subprocess.run(command, cwd=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
