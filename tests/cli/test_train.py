"""The train command."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from napari_sam_lora import Adapter, StepReport, TrainConfig
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.training.run import FineTuneReport, FineTuneRun

from .conftest import FAST, Run, plane, write_set


def test_flags_alone_give_an_adapter_and_its_figures(labelled: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "new" / "a.safetensors"
    result = run("train", "--data", labelled, "--output", out, "--rank", "2", "--targets", "q", "k", "v", *FAST)
    assert (result.code, result.err) == (0, "")
    adapter = Adapter.load(out)
    assert adapter.info.lora.rank == 2
    assert adapter.info.lora.targets == ("q", "k", "v")
    assert adapter.info.input_size == 64
    metrics = json.loads((out.parent / "a.json").read_text())
    assert metrics["verdict"] == "too few"
    assert metrics["train_count"] == 6
    assert metrics["base"]["box_iou"] is None
    assert metrics["settings"]["training"]["rank"] == 2
    assert metrics["settings"]["data"]["path"] == str(labelled)
    assert len(metrics["losses"]) == 1
    assert "Verdict: too few." in result.out
    assert str(out) in result.out
    assert sorted(path.name for path in out.parent.iterdir()) == ["a.json", "a.safetensors"]


def test_a_yaml_file_gives_the_same_and_held_out_objects_are_compared(labelled: Path, tmp_path: Path, run: Run) -> None:
    settings = {
        "model": {"input_size": 64},
        "data": {"path": labelled.name},
        "training": {"steps": 1, "objects": 1, "views": 1, "validation_share": 0.5, "learning_rate": "2e-3"},
        "preprocessing": {"percentiles": [1, 99]},
        "output": {"adapter": "b.safetensors", "metrics": "figures.json"},
    }
    write_set(labelled, (3, 4))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    result = run("train", tmp_path / "run.yaml", "--seed", "5")
    assert (result.code, result.err) == (0, "")
    metrics = json.loads((tmp_path / "figures.json").read_text())
    assert metrics["settings"]["training"]["seed"] == 5
    assert metrics["base"]["count"] == metrics["adapted"]["count"] == 12, "all, by cross-validation"
    info = Adapter.load(tmp_path / "b.safetensors").info
    assert info.preprocessing.percentiles == (1, 99)
    assert info.metrics["verdict"] == metrics["verdict"]
    assert f"{metrics['base']['box_iou']:.3f}" in result.out
    assert "12 held-out objects" in result.out

    # another round keeps what was held out
    again = run("train", tmp_path / "run.yaml", "--seed", "6", "--previous", tmp_path / "b.safetensors", "--output",
                tmp_path / "c.safetensors", "--metrics", tmp_path / "c.json")  # fmt: skip
    assert again.code == 0
    assert json.loads((tmp_path / "c.json").read_text())["held_out"] == metrics["held_out"]


def test_quiet_says_nothing(labelled: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "--quiet", "--data", labelled, "--output", tmp_path / "a.safetensors", *FAST)
    assert (result.code, result.out, result.err) == (0, "", "")


def test_nothing_that_exists_is_replaced_unless_asked_for(labelled: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.json").write_text("mine")
    command = ("train", "--data", labelled, "--output", tmp_path / "a.safetensors", *FAST)
    result = run(*command)
    assert result.code == 1
    assert result.error_code == "file-exists"
    assert "a.json" in result.message
    assert not (tmp_path / "a.safetensors").exists()
    assert run(*command, "--overwrite").code == 0
    assert json.loads((tmp_path / "a.json").read_text())["verdict"]


def test_files_without_a_partner_are_named(labelled: Path, tmp_path: Path, run: Run) -> None:
    shutil.copy(labelled / "images" / "cell_1.png", labelled / "images" / "lone.png")
    result = run("train", "--data", labelled, "--output", tmp_path / "a.safetensors", *FAST)
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith("warning: ")
    assert "lone.png" in warning


def test_label_ids_up_to_3_are_objects(labelled: Path, tmp_path: Path, run: Run) -> None:
    with Image.open(labelled / "labels" / "cell_1.png") as picture:
        assert np.unique(np.asarray(picture)).tolist() == [0, 1, 2, 3]
    out = tmp_path / "a.safetensors"
    assert run("train", "--data", labelled, "--output", out, *FAST).code == 0
    assert json.loads(out.with_suffix(".json").read_text())["train_count"] == 6


def test_an_image_with_channels_is_reported_with_the_option_that_picks_one(
    labelled: Path, tmp_path: Path, run: Run
) -> None:
    for path in (labelled / "images").iterdir():
        with Image.open(path) as picture:
            np.save(path.with_suffix(".npy"), np.stack(2 * [np.asarray(picture)], axis=-1))
        path.unlink()
    result = run("train", "--data", labelled, "--output", tmp_path / "a.safetensors", *FAST)
    assert (result.code, result.error_code) == (1, "channels-not-colours")
    assert "Image 0: " in result.message
    assert "--channel" in result.message
    assert run("train", "--data", labelled, "--output", tmp_path / "a.safetensors", "--channel", "1", *FAST).code == 0


@pytest.mark.parametrize(
    ("arguments", "error_code", "name"),
    [
        ([], "no-training-data", "--data"),
        (["none.yaml"], "file-not-readable", "none.yaml"),
        (["bad.yaml"], "unknown-setting", "bad.yaml: training has no setting stepps"),
        (["--data", "nowhere"], "dataset-not-found", "nowhere"),
        (["--data", "set", "--label-folder", "none"], "folder-not-found", "none"),
        (["--data", "unequal"], "labels-do-not-fit", "cell_1.png is (64, 64), its labels cell_1.png are (64, 32)"),
        (["--data", "broken"], "file-not-readable", "cell_2.png"),
        (["--data", "unlabelled"], "no-objects", ""),
        (["--data", "set", "--output", "a.pth"], "wrong-file-ending", ".safetensors"),
        (["--data", "set", "--steps", "0"], "steps-out-of-range", "steps"),
        (["--data", "set", "--model", "none.pth"], "model-not-found", "'none.pth'"),
        (["--data", "set", "--model", "bad.yaml"], "damaged-checkpoint", "bad.yaml"),
        (["--data", "set", "--previous", "bad.yaml"], "adapter-file-damaged", "bad.yaml"),
        (["--data", "set", "--device", "cuda:99"], "device-not-available", "'cuda:99'"),
    ],
)
def test_misuse_is_reported_in_one_line(
    arguments: list[str], error_code: str, name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("set", "unequal", "broken", "unlabelled"):
        write_set(Path(folder), (1, 2))
    Image.fromarray(plane(1)[1][:, :32]).save("unequal/labels/cell_1.png")
    Path("broken/images/cell_2.png").write_bytes(b"no")
    for seed in (1, 2):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(f"unlabelled/labels/cell_{seed}.png")
    Path("bad.yaml").write_text("training: {stepps: 3}")
    result = run("train", *FAST, *arguments)
    assert (result.code, result.error_code) == (1, error_code)
    assert name in result.message
    assert not Path("adapter.safetensors").exists()


def test_a_template_can_be_printed_written_and_used(labelled: Path, tmp_path: Path, run: Run) -> None:
    printed = run("train", "--init-config")
    assert yaml.safe_load(printed.out)["training"]["rank"] == TrainConfig().rank
    path = tmp_path / "run.yaml"
    assert run("train", "--init-config", path).code == 0
    assert path.read_text() == printed.out
    path.write_text("mine")
    result = run("train", "--init-config", path)
    assert result.code == 1
    assert result.error_code == "file-exists"
    assert "run.yaml" in result.message
    assert path.read_text() == "mine"


def test_ctrl_c_leaves_no_file(labelled: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: FineTuneRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FineTuneRun, "__next__", interrupted)
    out = tmp_path / "out"
    result = run("train", "--data", labelled, "--output", out / "a.safetensors", *FAST)
    assert result.code == 130
    assert result.err.strip() == "napari-sam-lora: interrupted"
    assert not out.exists()


def _interrupt(monkeypatch: pytest.MonkeyPatch, at: int, twice: bool = False) -> None:
    """Send Ctrl-C before a step, and with ``twice`` again while held-out objects are checked."""
    original_next, original_result = FineTuneRun.__next__, FineTuneRun.result

    def step(self: FineTuneRun) -> StepReport:
        step.count += 1  # type: ignore[attr-defined]
        if step.count == at:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGINT)
        return original_next(self)

    def result(self: FineTuneRun) -> tuple[Adapter, FineTuneReport]:
        if twice:
            signal.raise_signal(signal.SIGINT)
        return original_result(self)

    step.count = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(FineTuneRun, "__next__", step)
    monkeypatch.setattr(FineTuneRun, "result", result)


def test_the_first_ctrl_c_stops_and_keeps_what_was_learned(
    labelled: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    _interrupt(monkeypatch, at=4)
    out = tmp_path / "a.safetensors"
    result = run("train", "--data", labelled, "--output", out, *FAST, "--steps", "50")
    assert result.code == 0
    assert "Ctrl-C again keeps nothing" in result.err
    assert "Stopped after 3 of 50 steps." in result.out
    assert "Verdict:" in result.out
    assert Adapter.load(out).info.training["steps_done"] == 3
    assert len(json.loads(out.with_suffix(".json").read_text())["losses"]) == 3
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("at", "twice"), [(4, True), (1, False)], ids=["again while checking", "before a step"])
def test_nothing_is_written_after_a_second_ctrl_c_or_if_nothing_was_learned(
    labelled: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, at: int, twice: bool
) -> None:
    _interrupt(monkeypatch, at, twice)
    out = tmp_path / "out"
    result = run("train", "--data", labelled, "--output", out / "a.safetensors", *FAST, "--steps", "50")
    assert result.code == 130
    assert result.err.strip().endswith("napari-sam-lora: interrupted")
    assert not out.exists()


def test_real_nuclei_can_be_given_as_a_table(tmp_path: Path, run: Run) -> None:
    for number in (3, 4):
        for kind, pixels in zip(("image", "labels"), nuclei_pair(number), strict=True):
            Image.fromarray(pixels).save(tmp_path / f"{kind}{number}.png")
    (tmp_path / "set.csv").write_text("image,labels\nimage3.png,labels3.png\nimage4.png,labels4.png\n")
    out = tmp_path / "a.safetensors"
    assert run("train", "--data", tmp_path / "set.csv", "--output", out, *FAST).code == 0
    assert out.exists()


# Replaces the adapter's writer and a training step: reports where it is, and waits to be killed.
WAITING = """
import sys, time
from pathlib import Path
from napari_sam_lora import cli
from napari_sam_lora.training.run import FineTuneRun

original_write, original_next = Path.write_bytes, FineTuneRun.__next__

def wait(place):
    Path(sys.argv[2]).write_text(place)
    time.sleep(600)

def write(path, whole):
    original_write(path, whole[: len(whole) // 2])
    if path.suffix == ".safetensors":
        wait("writing")

def step(self):
    report = original_next(self)
    wait("between steps")
    return report

if sys.argv[1] == "writing":
    Path.write_bytes = write
else:
    FineTuneRun.__next__ = step
sys.exit(cli.main(sys.argv[3:]))
"""


# Python's signal module has no SIGKILL on Windows, so the way the process result could not be checked there.
@pytest.mark.skipif(sys.platform == "win32", reason="a killed run cannot be imitated: Windows has no SIGKILL")
@pytest.mark.parametrize("place", ["writing", "between steps"])
def test_a_run_that_is_killed_leaves_the_old_adapter_whole(
    place: str, adapter_file: Path, labelled: Path, tmp_path: Path
) -> None:
    out, position = tmp_path / "a.safetensors", tmp_path / "position"
    shutil.copy(adapter_file, out)
    command = ["train", "--data", str(labelled), "--output", str(out), "--overwrite", "--rank", "2", *FAST]
    process = subprocess.Popen([sys.executable, "-c", WAITING, place, str(position), *command], stderr=subprocess.PIPE)
    try:
        while not (position.exists() and position.read_text() == place):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert out.read_bytes() == adapter_file.read_bytes()
    assert Adapter.load(out).info.lora.rank == 4


# Python's signal module has no SIGKILL on Windows, so the way the process result could not be checked there.
@pytest.mark.skipif(sys.platform == "win32", reason="a killed run cannot be imitated: Windows has no SIGKILL")
def test_a_run_that_is_killed_at_any_time_leaves_the_old_or_the_new_adapter_whole(
    adapter_file: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    shutil.copy(adapter_file, out)
    command = ["train", "--data", str(labelled), "--output", str(out), "--overwrite", "--rank", "2", *FAST]
    # Writes without an end; killed as soon as the file has changed.
    code = (
        "import sys; from napari_sam_lora import Adapter, cli; original = Adapter.save\n"
        "def save(self, path):\n    while True: original(self, path)\n"
        "Adapter.save = save; cli.main(sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *command], stderr=subprocess.PIPE)
    try:
        for _ in range(2000):
            if process.poll() is not None or Adapter.load(out).info.lora.rank == 2:
                break
            time.sleep(0.03)
    finally:
        process.kill()
        _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error
    assert Adapter.load(out).info.lora.rank == 2
