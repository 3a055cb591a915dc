"""The evaluate command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam_lora import Adapter, evaluate, load_model

from .conftest import FAST, Run, plane, write_set

SMALL = FAST[:2]


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """A labelled image that no adapter has seen."""
    return write_set(tmp_path / "test", (7,))


def test_the_base_model_and_adapters_are_compared(adapter_file: Path, test_set: Path, tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(adapter_file, other)
    out = tmp_path / "out"
    ended = run("evaluate", test_set, "--adapters", adapter_file, other, "--output", out)
    assert (ended.code, ended.err) == (0, "")
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == {
        "evaluation.json", "comparison.png", "overlays/01_cell_7.png.png",
    }  # fmt: skip

    values = json.loads((out / "evaluation.json").read_text())
    assert values["images"] == 1
    base, adapted, same = values["models"]
    assert [model["name"] for model in (base, adapted, same)] == ["base", "discs", "other"]
    assert adapted["box_iou"] == same["box_iou"]
    assert [score["image"] for score in base["objects"]] == ["cell_7.png"] * 3
    expected = evaluate(load_model("sam_nano", "cpu", input_size=64), [plane(7)], [None, Adapter.load(adapter_file)])
    for model, evaluation in zip((base, adapted), expected, strict=True):
        assert model["count"] == 3
        for name in ("box_iou", "box_dice", "click_iou", "corrected_iou", "clicks_to_good"):
            assert model[name] == pytest.approx(getattr(evaluation.figures, name), abs=1e-6)

    lines = [line.split() for line in ended.out.splitlines()]
    (row,) = (line for line in lines if line[:1] == ["base"])
    assert row[1] == f"{base['box_iou']:.3f}"
    assert row[-1] == "3"
    with Image.open(out / "overlays" / "01_cell_7.png.png") as picture:
        assert picture.size[0] > picture.size[1]  # labels, base and two adapters; boxes and clicks


def test_ranks_are_trained_and_kept(labelled: Path, test_set: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    command = ("evaluate", test_set, "--ranks", "1", "2", "--train-data", labelled, "--output", out, "--overlays", "0")
    ended = run(*command, *FAST)
    assert ended.code == 0
    for rank in (1, 2):
        assert Adapter.load(out / f"rank_{rank}.safetensors").info.lora.rank == rank
        assert f"rank {rank}: too few." in ended.out
    names = [model["name"] for model in json.loads((out / "evaluation.json").read_text())["models"]]
    assert names == ["base", "rank 1", "rank 2"]
    assert not (out / "overlays").exists()

    again = run(*command, *FAST)
    assert again.code == 1
    assert "evaluation.json" in again.message
    assert "more files exist already" in again.message


def test_classes_are_measured_part_by_part(test_set: Path, tmp_path: Path, run: Run) -> None:
    labels = (plane(7)[1] > 0).astype(np.uint8) * 3  # three discs of one class
    Image.fromarray(labels).save(test_set / "labels" / "cell_7.png")
    ended = run("evaluate", test_set, "--labels", "classes", "--output", tmp_path / "out", "--overlays", "0", *SMALL)
    assert ended.code == 0
    (base,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert base["count"] == 3


def test_an_image_without_objects_is_told_and_left_out(test_set: Path, tmp_path: Path, run: Run) -> None:
    write_set(test_set, (8,))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(test_set / "labels" / "cell_8.png")
    ended = run("evaluate", test_set, "--output", tmp_path / "out", *SMALL)
    assert ended.code == 0
    assert "warning: 1 images hold no object that is large enough: cell_8.png." in ended.err
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["01_cell_7.png.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no data set nowhere"),
        (["test", "--ranks", "2"], "--train-data"),
        (["test", "--train-data", "set"], "with --ranks only"),
        (["test", "--ranks", "2", "2", "--train-data", "set"], "each once"),
        (["test", "--ranks", "0", "--train-data", "set"], "from 1 on"),
        (["test", "--steps", "5"], "--steps is a setting of training, which needs --ranks"),
        (["test", "--adapters", "none.safetensors"], "no adapter file none.safetensors"),
        (["test", "--adapters", "mine.safetensors", "mine.safetensors"], "named twice"),
        (["test", "--adapters", "mine.safetensors", "--model", "changed.safetensors"], "was trained on sam_nano"),
        (["set", "--ranks", "2", "--train-data", "set", *FAST], "share 2 images: cell_1.png, cell_2.png"),
        (["empty", *SMALL], "no labelled object that is large enough"),
    ],
)
def test_misuse_is_told_in_one_line(
    arguments: list[str], message: str, adapter_file: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(Path("set"), (1, 2))
    write_set(Path("test"), (7,))
    write_set(Path("empty"), (7,))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("empty/labels/cell_7.png")
    shutil.copy(adapter_file, "mine.safetensors")
    if "changed.safetensors" in arguments:
        assert run("adapter", "merge", adapter_file, "--output", "changed.safetensors").code == 0
    ended = run("evaluate", *arguments, "--output", "out")
    assert ended.code == 1
    assert message in ended.err
    assert len([line for line in ended.err.splitlines() if not line.startswith("warning")]) == 1
    assert not Path("out").exists()
