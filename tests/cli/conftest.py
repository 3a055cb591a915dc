"""Small labelled sets and a way to run commands in the tests' own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora import cli
from napari_sam_lora.errors import SamLoraError

# One step at a small input size: enough for a file, not for a better model.
FAST = ("--input-size", "64", "--steps", "1", "--objects", "1", "--views", "1", "--validation-share", "0")


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command, and the code of the error that ended it (see `SamLoraError`)."""

    code: int
    out: str
    err: str
    error_code: str = ""

    @property
    def message(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


Run = Callable[..., CommandResult]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    error_codes: list[str] = []
    describe = cli.describe_error

    def describe_and_record(error: Exception) -> str:
        error_codes.append(error.code if isinstance(error, SamLoraError) else "")
        return describe(error)

    monkeypatch.setattr(cli, "describe_error", describe_and_record)

    def command(*arguments: object) -> CommandResult:
        capsys.readouterr()
        error_codes.clear()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return CommandResult(code, out, err, error_codes[0] if error_codes else "")

    return command


def plane(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw three bright discs on a dark ground, and their ids 1 to 3; uint8 (64, 64) each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    labels = np.zeros((64, 64), np.uint8)
    for number, centre in enumerate(((16, 16), (20, 46), (46, 30)), start=1):
        cy, cx = centre + rng.integers(-3, 4, 2)
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 81] = number
    image = np.where(labels > 0, 180, 40) + rng.integers(-15, 16, labels.shape)
    return image.astype(np.uint8), labels


def write_set(folder: Path, seeds: tuple[int, ...]) -> Path:
    """Write a folder with ``images/`` and ``labels/``."""
    for seed in seeds:
        for kind, pixels in zip(("images", "labels"), plane(seed), strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"cell_{seed}.png")
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Write two labelled images."""
    return write_set(tmp_path / "set", (1, 2))


@pytest.fixture(scope="session")
def adapter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an adapter for one step, from the command line."""
    folder = tmp_path_factory.mktemp("adapter")
    data = write_set(folder / "set", (1, 2))
    path = folder / "discs.safetensors"
    assert cli.main(["--quiet", "train", "--data", str(data), "--output", str(path), *FAST]) == 0
    return path


@pytest.fixture(scope="session")
def class_adapter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an adapter with classes 2 and 5 for one step, from labels that are classes."""
    folder = tmp_path_factory.mktemp("class adapter")
    path = folder / "classes.safetensors"
    options = ("--labels", "classes", "--complete", *FAST)
    data = write_class_set(folder / "set", (1, 2))
    assert cli.main(["--quiet", "train", "--data", str(data), "--output", str(path), *options]) == 0
    return path


def write_class_set(folder: Path, seeds: tuple[int, ...]) -> Path:
    """Write such a folder in which labels are classes: 2 for the first disc, 5 for the others."""
    write_set(folder, seeds)
    for seed in seeds:
        labels = np.array([0, 2, 5, 5], np.uint8)[plane(seed)[1]]
        Image.fromarray(labels).save(folder / "labels" / f"cell_{seed}.png")
    return folder
