"""The demo and its command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam_lora import Adapter, cli, demo, evaluate_everything, load_model
from napari_sam_lora.io.samples import nuclei_pair

TEST = (8, 9)


@pytest.fixture(scope="module", autouse=True)
def _few_images() -> Iterator[None]:
    """Run the demo with four of its ten images, which is all that differs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TRAIN", (3, 4))
        patch.setattr(demo, "TEST", TEST)
        yield


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(_few_images: None, tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> demo.DemoResult:
    return demo.run_demo(tmp_path_factory.mktemp("demo") / "new" / "folder", steps=2, say=said.append)


def test_the_demo_writes_the_files_that_it_lists_and_no_other(result: demo.DemoResult) -> None:
    labels = {f"labels_{number:02d}.tif" for number in TEST}
    assert {path.name for path in result.folder.iterdir()} == {
        *labels,
        "adapter.safetensors",
        "metrics.json",
        "before_after.png",
    }


def test_the_figures_are_in_the_file(result: demo.DemoResult) -> None:
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics == result.metrics
    for name in ("box_iou", "box_dice", "click_iou", "corrected_iou", "clicks_to_good"):
        assert 0 < metrics[f"base_{name}"] < 7
        assert 0 < metrics[f"adapted_{name}"] < 7
    assert metrics["verdict"] in ("better", "not better", "too few")
    assert metrics["reason"]
    assert metrics["steps"] == 2
    assert metrics["trained_images"] == 2
    assert metrics["test_images"] == 2
    assert metrics["test_objects"] == sum(len(np.unique(nuclei_pair(number)[1])) - 1 for number in TEST)
    assert metrics["adapter_bytes"] == (result.folder / "adapter.safetensors").stat().st_size
    assert 0.3 < metrics["label_image_iou_base"] < 1


def test_what_is_found_without_a_prompt_is_counted_before_and_after(result: demo.DemoResult, said: list[str]) -> None:
    metrics, adapter = result.metrics, Adapter.load(result.folder / "adapter.safetensors")
    assert adapter.dense is not None, "the images are labelled completely, so the dense head was trained"
    model = load_model("sam_nano", device="cpu")
    base, adapted = evaluate_everything(model, [nuclei_pair(number) for number in TEST], [None, adapter])
    for name, matches in (("base", base), ("adapted", adapted)):
        assert metrics[f"everything_ap_{name}"] == pytest.approx(matches.average_precision, abs=1e-4)
        assert metrics[f"everything_found_{name}"] == matches.true_positives
        assert metrics[f"everything_wrong_{name}"] == matches.false_positives
        assert matches.true_positives + matches.false_negatives == metrics["test_objects"]
    assert (
        f"Found without a prompt: {base.true_positives} of {metrics['test_objects']} nuclei before, "
        f"{adapted.true_positives} after. Wrongly found: {base.false_positives} before, "
        f"{adapted.false_positives} after."
    ) in said


def test_the_label_images_hold_one_id_a_nucleus(result: demo.DemoResult) -> None:
    agreements = []
    for number in TEST:
        labels = nuclei_pair(number)[1]
        written = tifffile.imread(result.folder / f"labels_{number:02d}.tif")
        assert written.shape == (256, 256)
        assert written.dtype == np.uint16
        ids = np.unique(written)
        nuclei = np.unique(labels)[1:]
        assert ids[0] == 0
        assert len(nuclei) * 0.8 < len(ids) - 1 <= len(nuclei)
        assert ids[-1] <= len(nuclei)
        for row, nucleus in enumerate(nuclei, start=1):
            got, wanted = written == row, labels == nucleus
            agreements.append((got & wanted).sum() / (got | wanted).sum())
    assert np.mean(agreements) == pytest.approx(result.metrics["label_image_iou_adapted"], abs=1e-4)


def test_the_adapter_and_the_picture_can_be_opened(result: demo.DemoResult, tmp_path: Path) -> None:
    adapter = Adapter.load(result.folder / "adapter.safetensors")
    assert adapter.info.base_name == "sam_nano"
    assert adapter.info.metrics["verdict"] == result.metrics["verdict"]
    replace(adapter, dense=None).save(tmp_path / "without_head.safetensors")
    assert (tmp_path / "without_head.safetensors").stat().st_size < 2**20
    assert result.metrics["adapter_bytes"] < 2**21, "with the dense head"
    with Image.open(result.folder / "before_after.png") as picture:
        assert picture.size == (1800, 640), "six panels for each of two images"
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_the_user_is_told_what_happened(result: demo.DemoResult, said: list[str]) -> None:
    text = "\n".join(said)
    for number in ("1. ", "2. ", "3. ", "4. "):
        assert f"\n{number}" in f"\n{text}"
    assert f"{result.metrics['base_box_iou']:.3f}" in text
    assert f"{result.metrics['adapted_click_iou']:.3f}" in text
    assert f"verdict: {result.metrics['verdict']}" in text
    assert result.metrics["reason"] in text
    assert result.metrics["cross_validated"], "so few nuclei are held out that others are tested too"
    assert "another adapter, trained without some others, was tested on those" in text
    assert str(result.folder) in text


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "taken"
    path.write_text("mine")
    assert cli.main(["demo", "--output", str(path), "--steps", "1"]) == 1
    captured = capsys.readouterr()
    message = [line for line in captured.err.splitlines() if "napari-sam-lora" in line]
    assert len(message) == 1
    assert str(path) in message[0]
    assert "Traceback" not in captured.err
    assert path.read_text() == "mine"
    assert captured.out == ""


def test_steps_that_make_no_sense_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--output", str(tmp_path / "demo"), "--steps", "0"]) == 1
    assert capsys.readouterr().err == "napari-sam-lora: steps must be at least 1, not 0.\n"


def test_quiet_says_nothing_but_does_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, ...]] = []

    def run_demo(folder: Path, steps: int, seed: int, say: Callable[[str], None], bars: bool) -> None:
        seen.append((folder, steps, seed, bars))
        say("1.")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert cli.main(["--quiet", "demo", "--output", str(tmp_path / "new"), "--steps", "7"]) == 0
    assert cli.main(["demo", "--output", str(tmp_path / "new"), "--seed", "3"]) == 0
    assert seen == [(tmp_path / "new", 7, 0, False), (tmp_path / "new", 60, 3, True)]
    assert capsys.readouterr().out == "1.\n"
