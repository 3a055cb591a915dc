"""The evaluate command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam_lora import Adapter, evaluate, evaluate_classes, load_model

from .conftest import FAST, Run, plane, write_class_set, write_set

SMALL = FAST[:2]


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """Write a labelled image that no adapter has seen."""
    return write_set(tmp_path / "test", (7,))


def test_the_base_model_and_adapters_are_compared(adapter_file: Path, test_set: Path, tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(adapter_file, other)
    out = tmp_path / "out"
    result = run("evaluate", test_set, "--adapters", adapter_file, other, "--output", out)
    assert (result.code, result.err) == (0, "")
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

    lines = [line.split() for line in result.out.splitlines()]
    (row,) = (line for line in lines if line[:1] == ["base"])
    assert row[1] == f"{base['box_iou']:.3f}"
    assert row[-1] == "3"
    with Image.open(out / "overlays" / "01_cell_7.png.png") as picture:
        assert picture.size[0] > picture.size[1]  # labels, base and two adapters; boxes and clicks


def test_ranks_are_trained_and_kept(labelled: Path, test_set: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    command = ("evaluate", test_set, "--ranks", "1", "2", "--train-data", labelled, "--output", out, "--overlays", "0")
    result = run(*command, *FAST)
    assert result.code == 0
    for rank in (1, 2):
        assert Adapter.load(out / f"rank_{rank}.safetensors").info.lora.rank == rank
        assert f"rank {rank}: too few." in result.out
    names = [model["name"] for model in json.loads((out / "evaluation.json").read_text())["models"]]
    assert names == ["base", "rank 1", "rank 2"]
    assert not (out / "overlays").exists()

    again = run(*command, *FAST)
    assert (again.code, again.error_code) == (1, "file-exists")
    assert "evaluation.json" in again.message


def test_classes_are_evaluated_by_connected_component(test_set: Path, tmp_path: Path, run: Run) -> None:
    labels = (plane(7)[1] > 0).astype(np.uint8) * 3  # three discs of one class
    Image.fromarray(labels).save(test_set / "labels" / "cell_7.png")
    result = run("evaluate", test_set, "--labels", "classes", "--output", tmp_path / "out", "--overlays", "0", *SMALL)
    assert result.code == 0
    (base,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["models"]
    assert base["count"] == 3


def test_dice_of_each_class_is_printed_and_kept(class_adapter_file: Path, tmp_path: Path, run: Run) -> None:
    data, out = write_class_set(tmp_path / "test", (7, 8)), tmp_path / "out"
    command = ("evaluate", data, "--labels", "classes", "--adapters", class_adapter_file, "--overlays", "0")
    result = run(*command, "--output", out)
    assert (result.code, result.err) == (0, "")
    base, adapted = json.loads((out / "evaluation.json").read_text())["models"]
    assert base["classes"] is None
    labels = np.array([0, 2, 5, 5])
    pairs = [(image, labels[ids]) for image, ids in (plane(7), plane(8))]
    model = load_model("sam_nano", "cpu", input_size=64)
    (figures,) = evaluate_classes(model, pairs, [Adapter.load(class_adapter_file)], labels="classes")
    assert figures is not None
    assert set(figures.labelled) == {2, 5}
    assert adapted["classes"] == {
        "dice": {str(number): pytest.approx(dice, abs=1e-6) for number, dice in figures.dice.items()},
        "right": figures.right,
        "matched": figures.matched,
    }
    rows = [line.split() for line in result.out.splitlines()]
    for number, dice in figures.dice.items():
        assert [str(number), f"{dice:.3f}", str(figures.labelled.get(number, 0))] in rows
    assert f"{figures.right} of {figures.matched} found objects have the right class." in result.out


def test_an_image_without_objects_is_reported_and_left_out(test_set: Path, tmp_path: Path, run: Run) -> None:
    write_set(test_set, (8,))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(test_set / "labels" / "cell_8.png")
    result = run("evaluate", test_set, "--output", tmp_path / "out", *SMALL)
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith("warning: 1 images")
    assert "cell_8.png" in warning
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["01_cell_7.png.png"]


@pytest.mark.parametrize(
    ("arguments", "error_code", "name"),
    [
        (["nowhere"], "dataset-not-found", "nowhere"),
        (["test", "--ranks", "2"], "ranks-without-train-data", "--train-data"),
        (["test", "--train-data", "set"], "train-data-without-ranks", "--ranks"),
        (["test", "--ranks", "2", "2", "--train-data", "set"], "invalid-ranks", "[2, 2]"),
        (["test", "--ranks", "0", "--train-data", "set"], "invalid-ranks", "[0]"),
        (["test", "--steps", "5"], "training-setting-without-ranks", "--steps"),
        (["test", "--adapters", "none.safetensors"], "adapter-not-found", "none.safetensors"),
        (["test", "--adapters", "mine.safetensors", "mine.safetensors"], "adapter-named-twice", ""),
        (["test", "--adapters", "mine.safetensors", "--model", "changed.safetensors"], "other-base-model", "sam_nano"),
        (
            ["set", "--ranks", "2", "--train-data", "set", *FAST],
            "training-images-in-test-set",
            "cell_1.png, cell_2.png",
        ),
        (["empty", *SMALL], "no-large-enough-object", ""),
    ],
)
def test_misuse_is_reported_in_one_line(
    arguments: list[str],
    error_code: str,
    name: str,
    adapter_file: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(Path("set"), (1, 2))
    write_set(Path("test"), (7,))
    write_set(Path("empty"), (7,))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("empty/labels/cell_7.png")
    shutil.copy(adapter_file, "mine.safetensors")
    if "changed.safetensors" in arguments:
        assert run("adapter", "merge", adapter_file, "--output", "changed.safetensors").code == 0
    result = run("evaluate", *arguments, "--output", "out")
    assert (result.code, result.error_code) == (1, error_code)
    assert name in result.err
    assert len([line for line in result.err.splitlines() if not line.startswith("warning")]) == 1
    assert not Path("out").exists()
