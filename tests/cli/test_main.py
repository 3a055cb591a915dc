"""Test behaviour that all commands share: errors of one line, exit codes, quiet, version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from error_codes import raises

from napari_sam_lora import __version__, cli
from napari_sam_lora.cli.commands import models
from napari_sam_lora.cli.console import Console, check_output, table, to_json
from napari_sam_lora.errors import InputError

from .conftest import Run

COMMANDS = ("demo", "models", "segment", "train", "evaluate", "adapter", "export")


def test_the_version_is_printed(run: Run) -> None:
    result = run("--version")
    assert result.code == 0
    assert result.out == f"napari-sam-lora {__version__}\n"


def test_the_help_names_every_command_and_does_not_import_torch() -> None:
    code = (
        "import sys; from napari_sam_lora import cli\ntry: cli.main(['--help'])\nfinally: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert f"\n    {command} " in result.stdout
    assert result.stdout.endswith("False\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, run: Run) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"usage: napari-sam-lora {command}" in result.out
    assert "--quiet" in result.out
    assert result.err == ""


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "COMMAND"),
        (["paint"], "paint"),
        (["--colour"], "COMMAND"),
        (["train", "--steps", "many"], "many"),
        (["train", "--mode", "early"], "early"),
        (["train", "--ran", "4"], "--ran"),
        (["segment"], "IMAGES"),
        (["segment", "a.png"], "--output"),
        (["segment", "a.png", "--output", "b", "--window", "1"], "--window"),
        (["segment", "a.png", "--output", "b", "--overwrite", "--skip-existing"], "--skip-existing"),
        (["models", "fetch"], "NAME"),
        (["adapter"], "ACTION"),
        (["adapter", "merge", "a.safetensors"], "--output"),
    ],
)
def test_a_command_that_is_written_wrongly_ends_with_2_and_one_line(arguments: list[str], wrong: str, run: Run) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.message.startswith("napari-sam-lora")
    assert wrong in result.message
    assert "--help" in result.message
    assert result.out == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (InputError("The image\nis empty."), 1, "The image is empty."),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to"), 1, "not enough memory"),
        (PermissionError(13, "Permission denied", "/here"), 1, "cannot read or write /here: Permission denied"),
        (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero"),
    ],
)
def test_whatever_goes_wrong_is_one_line_and_a_code(
    error: BaseException, code: int, text: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(models, "run_list", fails)
    result = run("models")
    assert result.code == code
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert result.err.strip().startswith("napari-sam-lora: ")
    assert text in result.err


def test_debug_shows_where_an_error_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(models, "run_list", fails)
    assert "Traceback" in run("--debug", "models").err
    assert "Traceback" in run("models", "--debug").err


def test_quiet_may_stand_before_the_command_and_after_it(run: Run) -> None:
    loud = run("models", "list").out
    assert "Models are kept in" in loud
    for arguments in (("--quiet", "models"), ("models", "--quiet"), ("models", "list", "--quiet")):
        quiet = run(*arguments).out
        assert "Models are kept in" not in quiet
        assert "sam_nano" in quiet


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "napari_sam_lora.cli", "models"], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert result.stderr == b""


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["napari-sam-lora", "--quiet", "models"])
    assert cli.main() == 0
    assert "sam_nano" in capsys.readouterr().out


def test_numbers_in_a_table_are_aligned_to_the_right() -> None:
    assert table(("name", "n"), [("a", "5"), ("bcdef", "123")]) == "name     n\na        5\nbcdef  123"


def test_figures_that_are_not_numbers_are_null_in_json() -> None:
    assert to_json({"a": [float("nan"), 1.5], "b": Path("x")}) == '{\n  "a": [\n    null,\n    1.5\n  ],\n  "b": "x"\n}'


def test_an_existing_output_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("mine")
    with raises(InputError, "file-exists", match=r"there exists already: add --overwrite"):
        check_output([path, tmp_path / "new"], overwrite=False)
    check_output([path], overwrite=True)
    with raises(InputError, "output-below-file", match="there"):
        check_output([path / "below" / "it"], overwrite=True)
    with raises(InputError, "path-is-folder"):
        check_output([tmp_path], overwrite=True)


def test_a_bar_on_a_screen_shows_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Console().bar("working", 2, "step", ncols=80) as bar:
        bar.delay = 0
        bar.update()
        bar.refresh()
    assert "working:  50%" in capsys.readouterr().err
    with Console(quiet=True).bar("working", 2, "step") as bar:
        bar.update()
        bar.refresh()
    assert capsys.readouterr().err == ""
