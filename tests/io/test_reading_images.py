"""Reading images and label images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import list_images, read_image, read_labels, stem


@pytest.fixture
def gray() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "A.TIFF", "a.npy"])
def test_gray_and_colour_planes_are_read_as_they_are(
    name: str, gray: NDArray[np.uint8], rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    for pixels in (gray, rgb):
        file = read_image(_write(tmp_path / name, pixels))
        np.testing.assert_array_equal(file.data, pixels)
        assert file.has_channels == (pixels.ndim == 3)
        assert (file.stack_shape, file.plane_count, file.plane_shape) == ((), 1, (20, 30))


def test_a_jpeg_is_read(gray: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full_like(gray, 99)).save(path)
    assert abs(read_image(path).data.astype(int) - 99).max() <= 2


def _write(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels, **options)
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("compression", ["lzw", "adobe_deflate", "jpeg", "packbits", "zstd", "lzma"])
def test_compressed_tiffs_are_read(compression: str, gray: NDArray[np.uint8], tmp_path: Path) -> None:
    lossy = compression == "jpeg"
    path = _write(tmp_path / "a.tif", gray, compression=compression)
    read = read_image(path).data.astype(int)
    assert abs(read - gray).max() <= (120 if lossy else 0)
    if not lossy:
        np.testing.assert_array_equal(read_labels(path), gray)


def test_an_lzw_tiff_of_another_program_is_read(gray: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(gray).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, gray)


def test_without_its_codec_a_compressed_tiff_says_what_to_install(
    gray: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.tif", gray, compression="lzw")

    def missing(page: Any, *arguments: Any, **options: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with raises(InputError, "package-missing", match="pip install imagecodecs"):
        read_image(path)


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "u2", "i2", "i4", "f4", ">f8"])
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_every_type_of_pixel_survives(dtype: str, name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(-900 if dtype[-2:-1] in ("i", "f") else 0, 900, (9, 7)).astype(dtype)
    np.testing.assert_array_equal(read_image(_write(tmp_path / name, pixels)).data, pixels)


def test_a_16_bit_png_keeps_its_depth(tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    np.testing.assert_array_equal(read_image(_write(tmp_path / "a.png", pixels)).data, pixels)


@pytest.mark.parametrize(
    ("mode", "shape"), [("RGBA", (20, 30, 4)), ("LA", (20, 30)), ("P", (20, 30, 3)), ("1", (20, 30))]
)
def test_pictures_of_every_mode_become_gray_or_colours(
    mode: str, shape: tuple[int, ...], rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    Image.fromarray(rgb).convert(mode).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").data.shape == shape


@pytest.mark.parametrize(
    ("axes", "shape", "stack", "channels"),
    [
        ("ZYX", (5, 20, 30), (5,), 0),
        ("CYX", (2, 20, 30), (), 2),
        ("ZCYX", (5, 2, 20, 30), (5,), 2),
        ("TZCYX", (3, 5, 2, 20, 30), (3, 5), 2),
        ("YXS", (20, 30, 3), (), 3),
        ("TZYX", (1, 5, 20, 30), (5,), 0),
    ],
)
def test_a_tiff_that_names_its_axes_is_put_in_order(
    axes: str, shape: tuple[int, ...], stack: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    path = _write(
        tmp_path / "a.ome.tif",
        pixels,
        ome=True,
        metadata={"axes": axes},
        photometric="rgb" if "S" in axes else "minisblack",
    )
    file = read_image(path)
    assert file.stack_shape == stack
    assert file.data.shape == (*stack, 20, 30, *([channels] if channels else []))
    if axes == "ZCYX":
        np.testing.assert_array_equal(file.data[3, ..., 1], pixels[3, 1])
        np.testing.assert_array_equal(list(file.planes())[3], np.moveaxis(pixels[3], 0, -1))


@pytest.mark.parametrize(
    ("shape", "stack", "has_channels"),
    [((20, 30, 3), (), True), ((3, 20, 30), (3,), False), ((7, 20, 30, 2), (7,), True)],
)
def test_axes_that_are_not_named_are_guessed_by_their_length(
    shape: tuple[int, ...], stack: tuple[int, ...], has_channels: bool, tmp_path: Path
) -> None:
    file = read_image(_write(tmp_path / "a.npy", np.zeros(shape, np.uint16)))
    assert (file.stack_shape, file.has_channels) == (stack, has_channels)


def test_axes_can_be_named(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((3, 20, 30))
    file = read_image(_write(tmp_path / "a.npy", pixels), axes="cyx")
    np.testing.assert_array_equal(file.data, np.moveaxis(pixels, 0, -1))
    for wrong, code in (("ZCYX", "axes-do-not-fit"), ("ZZX", "invalid-axes"), ("ABC", "invalid-axes")):
        with raises(InputError, code, match=wrong):
            read_image(tmp_path / "a.npy", axes=wrong)
    with raises(InputError, "axes-not-named", match=r"b\.npy has 6"):
        read_image(_write(tmp_path / "b.npy", np.zeros((2,) * 6)))


def test_nifti_is_turned_so_that_planes_are_axial_with_the_back_and_the_left_at_their_ends(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).integers(-1000, 1000, (30, 20, 5)).astype(np.int16)  # x, y, z
    for name in ("ct.nii", "ct.nii.gz"):
        nibabel.nifti1.save(nibabel.nifti1.Nifti1Image(volume, np.eye(4)), tmp_path / name)
        file = read_image(tmp_path / name)
        assert file.stack_shape == (5,)
        assert file.data[4, 7, 11] == volume[29 - 11, 19 - 7, 4]  # the file counts to the right and to the front
        assert file.path.name == name


def test_nifti_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)  # as if it were not installed
    (tmp_path / "ct.nii").write_bytes(b"x")
    with raises(InputError, "package-missing", match=r"ct\.nii.*napari-sam-lora\[medical\]"):
        read_image(tmp_path / "ct.nii")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.npy", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"not an image at all"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with raises(InputError, "file-not-readable", match=name) as raised:
        read_image(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.tif"])
def test_a_file_that_was_cut_off_is_named(name: str, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = _write(tmp_path / name, rgb)
    path.write_bytes(path.read_bytes()[:-300])
    with raises(InputError, "file-not-readable", match=name):
        read_image(path)


def test_a_pickle_in_an_array_file_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with raises(InputError, "file-not-readable", match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


def test_a_missing_file_and_an_unknown_file_type_are_named(tmp_path: Path) -> None:
    with raises(InputError, "file-not-found", match=r"a\.png"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.gif").write_bytes(b"GIF")
    with raises(InputError, "wrong-file-ending", match=r"a\.gif .*\.png"):
        read_image(tmp_path / "a.gif")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.npy"])
def test_small_label_ids_survive(name: str, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    read = read_labels(_write(tmp_path / name, labels))
    assert read.dtype == np.int64
    assert read.tolist() == labels.tolist()


def test_ids_of_a_palette_and_of_one_bit_are_read_as_stored(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    picture.putdata(labels.ravel().tolist())
    picture.save(tmp_path / "palette.png")
    assert read_labels(tmp_path / "palette.png").tolist() == labels.tolist()
    Image.fromarray(labels > 1).save(tmp_path / "bits.png")
    assert read_labels(tmp_path / "bits.png").tolist() == (labels > 1).astype(int).tolist()


def test_labels_saved_as_gray_colours_are_read_and_real_colours_refused(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    opaque = np.full_like(labels, 255)
    _write(tmp_path / "gray.png", np.stack([labels, labels, labels, opaque], axis=-1))
    assert read_labels(tmp_path / "gray.png").tolist() == labels.tolist()
    with raises(InputError, "labels-are-colours", match=r"colours\.png"):
        read_labels(_write(tmp_path / "colours.png", rgb))


def test_labels_of_a_stack_keep_its_shape(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 70000, (5, 9, 7), np.uint32)
    np.testing.assert_array_equal(read_labels(_write(tmp_path / "a.tif", labels)), labels)


def test_planes_that_a_tiff_calls_colours_are_read_when_the_axes_are_named(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (3, 9, 7), np.uint8)
    path = _write(tmp_path / "a.tif", labels, photometric="rgb", planarconfig="separate")
    with raises(InputError, "labels-are-colours", match="--axes ZYX"):
        read_labels(path)
    np.testing.assert_array_equal(read_labels(path, "ZYX"), labels)


def test_labels_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    for labels, code in (
        (np.array([[0.5]]), "labels-not-whole-numbers"),
        (np.array([[-1, 0]]), "labels-negative"),
    ):
        with raises(InputError, code, match=r"a\.npy: "):
            read_labels(_write(tmp_path / "a.npy", labels))
    (tmp_path / "a.jpg").write_bytes(b"")
    with raises(InputError, "labels-in-jpeg", match=r"a\.jpg"):
        read_labels(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "bare"),
    [("a.png", "a"), ("a.b.TIF", "a.b"), ("a.nii.gz", "a"), ("a.ome.tif", "a"), ("a", "a"), (".tif", ".tif")],
)
def test_the_stem_is_what_images_and_labels_share(name: str, bare: str) -> None:
    assert stem(Path(name)) == bare


def test_a_folder_lists_its_images_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.tif", "notes.txt", ".hidden.png", "c.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.tif", "b.png", "c.nii.gz"]
    with raises(InputError, "folder-not-readable", match="nowhere"):
        list_images(tmp_path / "nowhere")
