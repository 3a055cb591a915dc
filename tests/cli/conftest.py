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

# One step at a small input size: enough for a file, not for a better model.
FAST = ("--input-size", "64", "--steps", "1", "--objects", "1", "--views", "1", "--validation-share", "0")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command."""

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return command


def plane(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Three bright discs on a dark ground, and their ids 1 to 3; uint8 (64, 64) each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    labels = np.zeros((64, 64), np.uint8)
    for number, centre in enumerate(((16, 16), (20, 46), (46, 30)), start=1):
        cy, cx = centre + rng.integers(-3, 4, 2)
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 81] = number
    image = np.where(labels > 0, 180, 40) + rng.integers(-15, 16, labels.shape)
    return image.astype(np.uint8), labels


def write_set(folder: Path, seeds: tuple[int, ...]) -> Path:
    """A folder with ``images/`` and ``labels/``."""
    for seed in seeds:
        for kind, pixels in zip(("images", "labels"), plane(seed), strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"cell_{seed}.png")
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two labelled images."""
    return write_set(tmp_path / "set", (1, 2))


@pytest.fixture(scope="session")
def adapter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of one step, from the command line."""
    folder = tmp_path_factory.mktemp("adapter")
    data = write_set(folder / "set", (1, 2))
    path = folder / "discs.safetensors"
    assert cli.main(["--quiet", "train", "--data", str(data), "--output", str(path), *FAST]) == 0
    return path
