"""Where a command may write: a plain file, or what a link says, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.cli.report_run import check_place, placed
from pipeline.warehouse.export_io import written_beside


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def refusal(option: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """One line, though --force was given."""
    with pytest.raises(typer.Exit) as ended:
        check_place(option, path, is_forced=True)
    assert ended.value.exit_code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    """`latest.csv` may lie on another disk, or be what a program opens."""
    (tmp_path / "there").mkdir()
    for is_there in (False, True):
        link = tmp_path / f"link-{is_there}.csv"
        target = tmp_path / "there" / f"{is_there}.csv"
        if is_there:
            target.write_text("old")
        link.symlink_to(target)
        check_place("--output", link, is_forced=is_there)
        with written_beside(link) as path:
            assert path.parent == target.parent
            path.write_text("new")
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert sorted(each.name for each in (tmp_path / "there").iterdir()) == ["False.csv", "True.csv"]


def test_what_a_link_names_is_replaced_only_if_somebody_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to(tmp_path / "kept.csv")
    with pytest.raises(typer.Exit):
        check_place("--output", tmp_path / "link.csv", is_forced=False)
    assert "link.csv is there already: --force replaces it" in capsys.readouterr().err


def test_what_is_no_plain_file_is_never_replaced(pipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rename over /dev/null makes it a file, for every process of the machine: a pipe stands for it."""
    line = refusal("--output", pipe, capsys)
    assert f"--output {pipe} is no plain file: leave --output out to write to standard output" in line
    assert f"--chart {pipe} is no plain file: name another" in refusal("--chart", pipe, capsys)
    assert "is a folder" in refusal("--chart", pipe.parent, capsys)


def test_a_link_into_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere" / "x.csv")
    assert f"there is no folder {tmp_path / 'nowhere'}" in refusal("--output", tmp_path / "link.csv", capsys)
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    with pytest.raises(typer.Exit), placed(tmp_path / "round.csv") as path:
        path.rename(tmp_path / "elsewhere")
    assert "round.csv: No such file or directory: it was not written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--state", "pipe", "--state pipe is no plain file"),
        ("--state", "/nodir/x.json", "--state /nodir/x.json: there is no folder /nodir"),
        ("--metrics", "pipe", "--metrics pipe is no plain file"),
        ("--state", "bytes", "no state of an earlier comparison"),
    ],
)
def test_a_state_that_cannot_be_one_is_one_line_and_is_not_read_without_end(
    option: str, name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full was read until memory was gone; a pipe, which stands for it, keeps a reader waiting."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"\xff\xfe{")
    result = CliRunner().invoke(cli, ["reconcile", option, name])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"{option} {name}" in result.stderr
    assert words in result.stderr
