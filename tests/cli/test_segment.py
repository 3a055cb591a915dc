"""The segment command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.api import Model, load_model
from napari_sam_lora.cli.commands import segment
from napari_sam_lora.io.writers import save_labels
from napari_sam_lora.model.automatic import EverythingConfig
from napari_sam_lora.model.dense_head import new_dense_head
from napari_sam_lora.model.dense_model import DenseModel
from napari_sam_lora.model.instances import InstanceConfig
from napari_sam_lora.stacks.tiles import TilingConfig

from .conftest import Run, plane

SMALL = ("--input-size", "64")
SPARSE = (*SMALL, "--points-per-side", "4", "--pred-iou-thresh", "0", "--stability-score-thresh", "0")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in (1, 2):
        Image.fromarray(plane(seed)[0]).save(folder / f"cell_{seed}.png")
    return folder


def _boxes(path: Path, names: tuple[str, ...], plane_number: int = 0) -> Path:
    """Boxes of the three discs, whose ids are 4, 5 and 9."""
    rows = ["image,plane,object,y0,x0,y1,x1"]
    for name in names:
        labels = plane(int(Path(name).stem[-1]))[1]
        for label, number in ((1, 4), (2, 5), (3, 9)):
            y, x = np.nonzero(labels == label)
            rows.append(f"{name},{plane_number},{number},{y.min()},{x.min()},{y.max() + 1},{x.max() + 1}")
    path.write_text("\n".join(rows))
    return path


def test_prompted_objects_get_the_ids_of_the_prompt_file(images: Path, tmp_path: Path, run: Run) -> None:
    prompts = _boxes(tmp_path / "boxes.csv", ("cell_1.png", "cell_2.png"))
    ended = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert (ended.code, ended.err) == (0, "")
    assert "cell_2.tif: 3 objects" in ended.out
    assert ended.out.endswith("6 objects in 2 images.\n")
    for seed in (1, 2):
        labels = tifffile.imread(tmp_path / "out" / f"cell_{seed}.tif")
        assert labels.dtype == np.uint16
        assert np.unique(labels).tolist() == [0, 4, 5, 9]
        for label, number in ((1, 4), (2, 5), (3, 9)):
            wanted, got = plane(seed)[1] == label, labels == number
            assert (wanted & got).sum() / (wanted | got).sum() > 0.5


def test_everything_mode_follows_its_parameters_and_tells_each_plane_apart(
    images: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[EverythingConfig] = []

    def everything(
        self: Model, image: object, config: EverythingConfig, *, smallest: int, progress: object, tiling: TilingConfig
    ) -> object:
        seen.append(config)
        assert smallest == 7
        assert callable(progress)
        progress(1, 2)
        progress(2, 2)
        return (np.asarray(image) > 100).astype(np.int32) * 2

    monkeypatch.setattr(Model, "segment_everything", everything)
    stack = np.stack([plane(3)[0], np.zeros((64, 64), np.uint8), plane(4)[0]])
    tifffile.imwrite(images / "stack.tif", stack, photometric="minisblack")
    ended = run(
        "segment", images / "stack.tif", "--output", tmp_path / "out", "--points-per-side", "5", "--pred-iou-thresh",
        "0.9", "--smallest", "7", *SMALL,
    )  # fmt: skip
    assert ended.code == 0
    labels = tifffile.imread(tmp_path / "out" / "stack.tif")
    assert labels.shape == (3, 64, 64)
    assert [np.unique(part).tolist() for part in labels] == [[0, 2], [0], [0, 4]]
    assert {(config.points_per_side, config.pred_iou_thresh) for config in seen} == {(5, 0.9)}


def test_everything_in_a_real_image_is_found_by_the_real_model(images: Path, tmp_path: Path, run: Run) -> None:
    assert run("segment", images / "cell_1.png", "--output", tmp_path / "out", *SPARSE).code == 0
    labels = tifffile.imread(tmp_path / "out" / "cell_1.tif")
    assert labels.shape == (64, 64)
    assert labels.max() >= 1


def test_prompts_of_a_stack_name_the_plane(images: Path, tmp_path: Path, run: Run) -> None:
    tifffile.imwrite(images / "s_1.tif", np.stack([plane(1)[0]] * 3), photometric="minisblack")
    prompts = _boxes(tmp_path / "boxes.csv", ("s_1",), plane_number=2)
    ended = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert ended.code == 0
    assert "warning: 2 images without prompts are left out: cell_1.png, cell_2.png." in ended.err
    labels = tifffile.imread(tmp_path / "out" / "s_1.tif")
    assert [bool(part.any()) for part in labels] == [False, False, True]
    prompts = _boxes(tmp_path / "boxes.csv", ("s_1",), plane_number=3)
    ended = run("segment", images / "s_1.tif", "--output", tmp_path / "out2", "--prompts", prompts, *SMALL)
    assert ended.code == 1
    assert ended.message == "napari-sam-lora: s_1.tif: there are prompts for plane 3, and the planes are 0 to 2."


def test_nothing_that_exists_is_replaced_unless_asked_for(images: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cell_2.tif").write_text("painted by hand")
    command = (
        "segment",
        images,
        "--output",
        out,
        "--prompts",
        _boxes(tmp_path / "b.csv", ("cell_1", "cell_2")),
        *SMALL,
    )
    ended = run(*command)
    assert ended.code == 1
    assert "cell_2.tif exists already; --overwrite" in ended.message
    assert [path.name for path in out.iterdir()] == ["cell_2.tif"]

    assert run(*command, "--skip-existing").code == 0
    assert (out / "cell_2.tif").read_text() == "painted by hand"
    assert tifffile.imread(out / "cell_1.tif").any()

    assert run(*command, "--overwrite").code == 0
    assert tifffile.imread(out / "cell_2.tif").any()


def test_the_image_itself_is_never_replaced(tmp_path: Path, run: Run) -> None:
    tifffile.imwrite(tmp_path / "a.tif", plane(1)[0])
    before = (tmp_path / "a.tif").read_bytes()
    ended = run("segment", tmp_path / "a.tif", "--output", tmp_path, "--overwrite", *SPARSE)
    assert ended.code == 1
    assert "would replace the image" in ended.message
    assert (tmp_path / "a.tif").read_bytes() == before


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_segmented(
    images: Path, tmp_path: Path, run: Run
) -> None:
    (images / "broken.png").write_bytes(b"no image")
    ended = run("segment", images, "--output", tmp_path / "out", *SPARSE)
    assert ended.code == 1
    first, last = ended.err.splitlines()
    assert first.startswith("napari-sam-lora: broken.png cannot be read")
    assert last == "napari-sam-lora: 1 of 3 images were not segmented: broken.png."
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cell_1.tif", "cell_2.tif"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "There is no file or folder"),
        (["empty"], "holds no image"),
        (["cell_1.png", "cell_1.tif"], "would both be written to"),
        (["cell_1.png", "--prompts", "none.csv"], "cannot be read"),
        (
            ["cell_1.png", "--prompts", "b.csv", "--points-per-side", "3"],
            "--points-per-side belongs to everything mode",
        ),
        (["cell_1.png", "--prompts", "other.json"], "names none of the images; it has other.png"),
        (["cell_1.png", "cell_2.png", "--prompts", "nameless.json"], "does not say which image"),
        (["cell_1.png", "--model", "vit_z"], "no model named 'vit_z'"),
        (["cell_1.png", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["cell_1.png", "--input-size", "100"], "input size must be a positive multiple"),
        (["cell_1.png", "--window", "5", "1"], "the lower one first"),
        (["cell_1.png", "--window", "1", "5", "--ct-window", "bone"], "not both"),
        (["colours.npy", *SMALL], "colours.npy: An image must be"),
        (["colours.npy", *SMALL], "or pick a channel. (--channel N, counted from 0"),
        (["colours.npy", "--channel", "9", *SMALL], "colours.npy: There is no channel 9"),
        (["cell_1.png", "--adapter", "cell_1.png"], "not an adapter file"),
        (["cell_1.png", "--adapter", "none.safetensors"], "no adapter file"),
        (["cell_1.png", "--adapter", "cell_1.png", "--channel", "0"], "--channel cannot be chosen with --adapter"),
    ],
)
def test_misuse_is_told_in_one_line(
    arguments: list[str], message: str, images: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    Path("empty").mkdir()
    np.save("colours.npy", np.zeros((64, 64, 2), np.uint8))
    tifffile.imwrite("cell_1.tif", plane(1)[0])
    _boxes(Path("b.csv"), ("cell_1",))
    Path("other.json").write_text(json.dumps({"other.png": [{"box": [1, 2, 3, 4]}]}))
    Path("nameless.json").write_text(json.dumps([{"box": [1, 2, 3, 4]}]))
    ended = run("segment", *arguments, "--output", "out")
    assert ended.code == 1
    assert message in ended.message
    assert not Path("out").exists()


def test_of_many_images_one_with_channels_is_told_with_the_option_that_picks_one(
    images: Path, tmp_path: Path, run: Run
) -> None:
    np.save(images / "colours.npy", np.zeros((64, 64, 2), np.uint8))
    ended = run("segment", images, "--output", tmp_path / "out", *SPARSE)
    assert ended.code == 1
    assert ended.err.splitlines()[0].startswith("napari-sam-lora: colours.npy: An image must be")
    assert "--channel" in ended.err.splitlines()[0]


def test_a_channel_and_a_window_can_be_chosen(tmp_path: Path, run: Run) -> None:
    image, labels = plane(1)
    np.save(tmp_path / "m_1.npy", np.stack([np.zeros_like(image), image], axis=-1).astype(np.int16) - 1000)
    prompts = _boxes(tmp_path / "b.csv", ("m_1",))
    ended = run(
        "segment", tmp_path / "m_1.npy", "--output", tmp_path / "out", "--prompts", prompts, "--channel", "1",
        "--window", "-960", "-820", *SMALL,
    )  # fmt: skip
    assert ended.code == 0
    got, wanted = tifffile.imread(tmp_path / "out" / "m_1.tif") > 0, labels > 0
    assert (got & wanted).sum() / (got | wanted).sum() > 0.5


def test_an_adapter_brings_its_base_model_and_input_size(
    adapter_file: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    prompts = _boxes(tmp_path / "b.csv", ("cell_1",))
    ended = run(
        "segment", images / "cell_1.png", "--output", tmp_path / "out", "--prompts", prompts, "--adapter", adapter_file
    )
    assert ended.code == 0
    assert np.unique(tifffile.imread(tmp_path / "out" / "cell_1.tif")).tolist() == [0, 4, 5, 9]


def test_ctrl_c_keeps_what_is_whole_and_leaves_nothing_else(
    images: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, labels: NDArray[np.int64], *rest: Any, **options: Any) -> list[Path]:
        if path.name == "cell_2.tif":
            monkeypatch.setattr(tifffile, "imwrite", _half)
        return save_labels(path, labels, *rest, **options)

    def _half(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(segment, "save_labels", interrupted)
    prompts = _boxes(tmp_path / "b.csv", ("cell_1", "cell_2"))
    ended = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert ended.code == 130
    assert ended.err.strip() == "napari-sam-lora: interrupted"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cell_1.tif"]
    assert tifffile.imread(tmp_path / "out" / "cell_1.tif").any()


@pytest.fixture
def headed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The model has a dense head; what everything mode is asked for is kept."""
    asked: list[dict[str, Any]] = []

    def everything(self: Model, image: NDArray[Any], config: object = None, **options: Any) -> object:
        asked.append(options | {"config": config})
        return np.zeros(image.shape[:2], np.int32)

    dense = DenseModel(new_dense_head(load_model("sam_nano", "cpu").loaded.sam), InstanceConfig(smallest=9))
    monkeypatch.setattr("napari_sam_lora.model.checkpoints._bundled_head", lambda *_: dense)
    monkeypatch.setattr(Model, "segment_everything", everything)
    return asked


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ((), "head"),
        (("--method", "head", "--sensitivity", "0.7"), "head"),
        (("--separation", "0.3"), "head"),
        (("--method", "clicks"), "clicks"),
        (("--points-per-side", "4"), "clicks"),
        (("--tile-size", "64"), "clicks"),
    ],
)
def test_the_head_is_used_unless_clicks_are_asked_for(
    images: Path, tmp_path: Path, run: Run, headed: list[dict[str, Any]], options: tuple[str, ...], method: str
) -> None:
    ended = run("segment", images / "cell_1.png", "--output", tmp_path / "out", *SMALL, *options)
    assert (ended.code, ended.err) == (0, "")
    (asked,) = headed
    if method == "clicks":
        assert isinstance(asked["config"], EverythingConfig)
        assert asked["smallest"] == 0
    else:
        assert asked["method"] == "head"
        given = dict(zip(options[::2], options[1::2], strict=True))
        given.pop("--method", None)
        changed: dict[str, Any] = {name.strip("-"): float(value) for name, value in given.items()}
        assert asked["instances"] == replace(InstanceConfig(smallest=9), **changed)
        assert asked["smallest"] is None


def test_options_of_the_other_method_are_refused(
    images: Path, tmp_path: Path, run: Run, headed: list[dict[str, Any]]
) -> None:
    command = ("segment", images, "--output", tmp_path / "out", *SMALL)
    assert "--separation" in run(*command, "--method", "clicks", "--separation", "0.3").message
    assert "--points-per-side" in run(*command, "--method", "head", "--points-per-side", "4").message
    prompts = _boxes(tmp_path / "b.csv", ("cell_1.png",))
    assert "--separation" in run(*command, "--prompts", prompts, "--separation", "0.3").message
    assert not headed
