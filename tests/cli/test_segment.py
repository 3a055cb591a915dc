"""The segment command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.api import Model, load_model
from napari_sam_lora.cli.commands import segment
from napari_sam_lora.io.writers import save_labels
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import new_dense_head
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.tiling import TilingConfig

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
    """Write boxes of the three discs, whose ids are 4, 5 and 9."""
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
    result = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert (result.code, result.err) == (0, "")
    assert "cell_2.tif: 3 objects" in result.out
    assert result.out.endswith("6 objects in 2 images.\n")
    for seed in (1, 2):
        labels = tifffile.imread(tmp_path / "out" / f"cell_{seed}.tif")
        assert labels.dtype == np.uint16
        assert np.unique(labels).tolist() == [0, 4, 5, 9]
        for label, number in ((1, 4), (2, 5), (3, 9)):
            wanted, got = plane(seed)[1] == label, labels == number
            assert (wanted & got).sum() / (wanted | got).sum() > 0.5


def test_everything_mode_uses_its_parameters_and_gives_each_plane_its_own_ids(
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
    result = run(
        "segment", images / "stack.tif", "--output", tmp_path / "out", "--points-per-side", "5", "--pred-iou-thresh",
        "0.9", "--smallest", "7", *SMALL,
    )  # fmt: skip
    assert result.code == 0
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
    result = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith("warning: 2 images without prompts")
    assert "cell_1.png, cell_2.png" in warning
    labels = tifffile.imread(tmp_path / "out" / "s_1.tif")
    assert [bool(part.any()) for part in labels] == [False, False, True]
    prompts = _boxes(tmp_path / "boxes.csv", ("s_1",), plane_number=3)
    result = run("segment", images / "s_1.tif", "--output", tmp_path / "out2", "--prompts", prompts, *SMALL)
    assert (result.code, result.error_code) == (1, "plane-outside-stack")
    assert result.message.startswith("napari-sam-lora: s_1.tif: ")
    assert "plane 3" in result.message
    assert "0 to 2" in result.message


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
    result = run(*command)
    assert (result.code, result.error_code) == (1, "file-exists")
    assert "cell_2.tif" in result.message
    assert "--overwrite" in result.message
    assert [path.name for path in out.iterdir()] == ["cell_2.tif"]

    assert run(*command, "--skip-existing").code == 0
    assert (out / "cell_2.tif").read_text() == "painted by hand"
    assert tifffile.imread(out / "cell_1.tif").any()

    assert run(*command, "--overwrite").code == 0
    assert tifffile.imread(out / "cell_2.tif").any()


def test_the_image_itself_is_never_replaced(tmp_path: Path, run: Run) -> None:
    tifffile.imwrite(tmp_path / "a.tif", plane(1)[0])
    before = (tmp_path / "a.tif").read_bytes()
    result = run("segment", tmp_path / "a.tif", "--output", tmp_path, "--overwrite", *SPARSE)
    assert (result.code, result.error_code) == (1, "output-is-input")
    assert "a.tif" in result.message
    assert (tmp_path / "a.tif").read_bytes() == before


def test_labels_of_a_nifti_are_a_nifti_unless_another_format_is_asked_for(tmp_path: Path, run: Run) -> None:
    save_volume: Any = nibabel.save
    save_volume(nibabel.Nifti1Image(plane(1)[0][..., None], np.eye(4)), tmp_path / "ct.nii")
    assert run("segment", tmp_path / "ct.nii", "--output", tmp_path / "a", *SPARSE).code == 0
    assert run("segment", tmp_path / "ct.nii", "--output", tmp_path / "b", "--format", "tif", *SPARSE).code == 0
    assert [path.name for path in (*tmp_path.glob("a/*"), *tmp_path.glob("b/*"))] == ["ct.nii", "ct.tif"]


def test_a_file_name_is_no_folder_for_labels(images: Path, tmp_path: Path, run: Run) -> None:
    result = run("segment", images, "--output", tmp_path / "p1.nii.gz", *SPARSE)
    assert (result.code, result.error_code) == (1, "output-is-a-file")
    assert "--format" in result.message
    assert not (tmp_path / "p1.nii.gz").exists()


def test_an_image_that_cannot_be_read_is_reported_and_the_others_are_segmented(
    images: Path, tmp_path: Path, run: Run
) -> None:
    (images / "broken.png").write_bytes(b"no image")
    result = run("segment", images, "--output", tmp_path / "out", *SPARSE)
    assert (result.code, result.error_code) == (1, "images-not-segmented")
    first, last = result.err.splitlines()
    assert first.startswith("napari-sam-lora: broken.png ")
    assert last.startswith("napari-sam-lora: 1 of 3 images ")
    assert "broken.png" in last
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cell_1.tif", "cell_2.tif"]


@pytest.mark.parametrize(
    ("arguments", "error_code", "name"),
    [
        (["nowhere.png"], "file-not-found", "nowhere.png"),
        (["empty"], "no-image-in-folder", "empty"),
        (["cell_1.png", "cell_1.tif"], "outputs-of-one-name", "cell_1.tif"),
        (["cell_1.png", "--prompts", "none.csv"], "file-not-readable", "none.csv"),
        (
            ["cell_1.png", "--prompts", "b.csv", "--points-per-side", "3"],
            "option-of-everything-mode",
            "--points-per-side",
        ),
        (["cell_1.png", "--prompts", "other.json"], "prompts-of-other-images", "other.png"),
        (["cell_1.png", "cell_2.png", "--prompts", "nameless.json"], "prompts-without-image", "nameless.json"),
        (["cell_1.png", "--model", "vit_z"], "model-not-found", "'vit_z'"),
        (["cell_1.png", "--device", "abacus"], "device-not-available", "'abacus'"),
        (["cell_1.png", "--input-size", "100"], "invalid-input-size", "100"),
        (["cell_1.png", "--window", "5", "1"], "invalid-window", "5"),
        (["cell_1.png", "--window", "1", "5", "--ct-window", "bone"], "two-windows", ""),
        (["colours.npy", *SMALL], "channels-not-colours", "colours.npy: "),
        (["colours.npy", *SMALL], "channels-not-colours", "(--channel N, counted from 0"),
        (["colours.npy", "--channel", "9", *SMALL], "channel-not-found", "channel 9"),
        (["cell_1.png", "--adapter", "cell_1.png"], "adapter-file-damaged", "cell_1.png"),
        (["cell_1.png", "--adapter", "none.safetensors"], "adapter-not-found", "none.safetensors"),
        (["cell_1.png", "--adapter", "cell_1.png", "--channel", "0"], "option-fixed-by-adapter", "--channel"),
    ],
)
def test_misuse_is_reported_in_one_line(
    arguments: list[str], error_code: str, name: str, images: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    Path("empty").mkdir()
    np.save("colours.npy", np.zeros((64, 64, 2), np.uint8))
    tifffile.imwrite("cell_1.tif", plane(1)[0])
    _boxes(Path("b.csv"), ("cell_1",))
    Path("other.json").write_text(json.dumps({"other.png": [{"box": [1, 2, 3, 4]}]}))
    Path("nameless.json").write_text(json.dumps([{"box": [1, 2, 3, 4]}]))
    result = run("segment", *arguments, "--output", "out")
    assert (result.code, result.error_code) == (1, error_code)
    assert name in result.message
    assert not Path("out").exists()


def test_of_many_images_one_with_channels_is_reported_with_the_option_that_picks_one(
    images: Path, tmp_path: Path, run: Run
) -> None:
    np.save(images / "colours.npy", np.zeros((64, 64, 2), np.uint8))
    result = run("segment", images, "--output", tmp_path / "out", *SPARSE)
    assert result.code == 1
    assert result.err.splitlines()[0].startswith("napari-sam-lora: colours.npy: ")
    assert "--channel" in result.err.splitlines()[0]


def test_a_channel_and_a_window_can_be_chosen(tmp_path: Path, run: Run) -> None:
    image, labels = plane(1)
    np.save(tmp_path / "m_1.npy", np.stack([np.zeros_like(image), image], axis=-1).astype(np.int16) - 1000)
    prompts = _boxes(tmp_path / "b.csv", ("m_1",))
    result = run(
        "segment", tmp_path / "m_1.npy", "--output", tmp_path / "out", "--prompts", prompts, "--channel", "1",
        "--window", "-960", "-820", *SMALL,
    )  # fmt: skip
    assert result.code == 0
    got, wanted = tifffile.imread(tmp_path / "out" / "m_1.tif") > 0, labels > 0
    assert (got & wanted).sum() / (got | wanted).sum() > 0.5


def test_an_adapter_brings_its_base_model_and_input_size(
    adapter_file: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    prompts = _boxes(tmp_path / "b.csv", ("cell_1",))
    result = run(
        "segment", images / "cell_1.png", "--output", tmp_path / "out", "--prompts", prompts, "--adapter", adapter_file
    )
    assert result.code == 0
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
    result = run("segment", images, "--output", tmp_path / "out", "--prompts", prompts, *SMALL)
    assert result.code == 130
    assert result.err.strip() == "napari-sam-lora: interrupted"
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
    result = run("segment", images / "cell_1.png", "--output", tmp_path / "out", *SMALL, *options)
    assert (result.code, result.err) == (0, "")
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
    prompts = ("--prompts", _boxes(tmp_path / "b.csv", ("cell_1.png",)))
    for options, name, code in (
        (("--method", "clicks", "--separation", "0.3"), "--separation", "option-of-other-method"),
        (("--method", "head", "--points-per-side", "4"), "--points-per-side", "option-of-other-method"),
        ((*prompts, "--separation", "0.3"), "--separation", "option-of-everything-mode"),
        ((*prompts, "--method", "clicks"), "--method", "option-of-everything-mode"),
    ):
        result = run(*command, *options)
        assert (result.code, result.error_code) == (1, code)
        assert name in result.message
    assert not headed


def test_a_semantic_map_has_the_class_of_each_pixel(
    class_adapter_file: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    adapter = Adapter.load(class_adapter_file)
    stack = np.stack([plane(1)[0], plane(2)[0]])
    np.save(images / "stack.npy", stack)
    result = run(
        "segment", images / "stack.npy", "--output", tmp_path / "out", "--semantic", "--sensitivity", "0.6",
        "--adapter", class_adapter_file,
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    written = tifffile.imread(tmp_path / "out" / "stack.tif")
    model = load_model("sam_nano", "cpu")
    assert adapter.dense is not None
    with model.adapted(adapter):
        instances = replace(adapter.dense.instances, sensitivity=0.6)
        expected = [model.segment_semantic(one, instances=instances) for one in stack]
    np.testing.assert_array_equal(written, expected)
    assert written.any()
    assert set(np.unique(written)) <= {0, 2, 5}
    shown = ", ".join(str(number) for number in np.unique(written) if number)
    assert f"stack.tif: classes {shown}" in result.out


@pytest.mark.parametrize(
    ("options", "error_code", "name"),
    [
        (("--method", "clicks"), "option-of-other-method", "--method"),
        (("--points-per-side", "4"), "option-of-other-method", "--points-per-side"),
        (("--separation", "0.4"), "option-of-other-method", "--separation"),
        (("--smallest", "4"), "option-of-other-method", "--smallest"),
        (("--prompts", "b.csv"), "option-of-everything-mode", "--semantic"),
    ],
)
def test_options_of_objects_are_refused_with_semantic_maps(
    options: tuple[str, ...], error_code: str, name: str, class_adapter_file: Path, images: Path, tmp_path: Path,
    run: Run, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    _boxes(Path("b.csv"), ("cell_1.png",))
    result = run("segment", images, "--output", "out", "--semantic", "--adapter", class_adapter_file, *options)
    assert (result.code, result.error_code) == (1, error_code)
    assert name in result.message


def test_without_classes_there_is_no_semantic_map(images: Path, tmp_path: Path, run: Run) -> None:
    result = run("segment", images, "--output", tmp_path / "out", "--semantic", *SMALL)
    assert (result.code, result.error_code) == (1, "no-classes")
