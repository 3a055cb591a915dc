"""From planes of any kind to the pixels that SAM sees."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray
from segment_anything.utils.transforms import ResizeLongestSide

from napari_sam_lora.errors import ChannelError, InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing, prepare, resized_shape, to_rgb8

DTYPES = ["?", "u1", "<u2", ">u2", "<u4", ">u4", "<i2", ">i2", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _by_hand(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    gray = np.rint(np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1) * 255)
    return np.stack([gray.astype(np.uint8)] * 3, axis=-1)


def _assert_close(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    """Equal but for the rounding of single precision."""
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number_is_stretched_from_black_to_white(dtype: str) -> None:
    plane = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert to_rgb8(plane)[..., 0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_the_default_window_is_the_percentiles_of_the_plane(rng: np.random.Generator, dtype: str) -> None:
    plane = rng.integers(0, 200, (40, 50)).astype(dtype)
    plane[0, 0] = 255
    low, high = np.percentile(plane.astype(np.float64), (0.1, 99.9))
    _assert_close(to_rgb8(plane), _by_hand(plane, low, high))


def test_other_percentiles_can_be_asked_for() -> None:
    plane = np.arange(101, dtype=np.uint16)[None]  # the q-th percentile is q
    rgb = to_rgb8(plane, Preprocessing(percentiles=(10, 60)))[0, :, 0]
    assert rgb[[0, 10, 35, 60, 100]].tolist() == [0, 0, 128, 255, 255]


def test_negative_integers_are_darker_than_positive_ones() -> None:
    plane = np.array([[-1000, 0, 1000]], np.int16)
    assert to_rgb8(plane, Preprocessing(percentiles=(0, 100)))[0, :, 0].tolist() == [0, 128, 255]


def test_the_full_range_of_int16_does_not_wrap_round() -> None:
    plane = np.array([[-32768, -16384, 0, 16384, 32767]], np.int16)
    gray = to_rgb8(plane, Preprocessing(percentiles=(0, 100)))[0, :, 0]
    assert gray.tolist() == [0, 64, 128, 191, 255]


def test_read_only_and_negative_stride_arrays_are_taken(rng: np.random.Generator) -> None:
    plane = rng.integers(0, 65535, (30, 20)).astype(np.uint16)
    flipped = plane[::-1, ::-1]
    flipped.flags.writeable = False
    np.testing.assert_array_equal(prepare(flipped, 64).pixels, prepare(flipped.copy(), 64).pixels)
    colour = rng.integers(0, 255, (30, 20, 3)).astype(np.uint8)[::-1, :, ::-1]
    colour.flags.writeable = False
    np.testing.assert_array_equal(prepare(colour, 64).pixels, prepare(colour.copy(), 64).pixels)


def test_a_lone_channel_is_a_gray_plane(rng: np.random.Generator) -> None:
    plane = rng.random((12, 9))
    np.testing.assert_array_equal(to_rgb8(plane[..., None]), to_rgb8(plane))


def test_uint8_rgb_passes_unchanged_and_alpha_is_ignored(rng: np.random.Generator) -> None:
    rgba = rng.integers(10, 100, (12, 9, 4)).astype(np.uint8)
    np.testing.assert_array_equal(to_rgb8(rgba[..., :3]), rgba[..., :3])
    np.testing.assert_array_equal(to_rgb8(rgba), rgba[..., :3])


def test_uint16_rgb_has_one_window_for_all_channels() -> None:
    plane = np.zeros((1, 2, 3), np.uint16)
    plane[0, 1] = [1000, 2000, 4000]
    rgb = to_rgb8(plane, Preprocessing(percentiles=(0, 100)))
    assert rgb[0].tolist() == [[0, 0, 0], [64, 128, 255]]


@pytest.mark.parametrize(("channels", "channel"), [(2, 1), (3, 0), (4, 3), (7, 5), (7, -1)])
def test_a_channel_is_picked_before_its_window_is_found(rng: np.random.Generator, channels: int, channel: int) -> None:
    stack = rng.integers(0, 100, (20, 30, channels)) * 10 ** np.arange(channels)
    np.testing.assert_array_equal(to_rgb8(stack, Preprocessing(channel=channel)), to_rgb8(stack[..., channel]))


@pytest.mark.parametrize("shape", [(37, 61), (61, 37), (64, 64), (100, 300), (300, 100), (64, 20), (511, 512)])
def test_uint8_rgb_is_resized_as_segment_anything_does(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    prepared = prepare(image, 64)
    reference = ResizeLongestSide(64)
    np.testing.assert_array_equal(prepared.pixels, reference.apply_image(image))
    assert prepared.resized_shape == reference.get_preprocess_shape(*shape, 64)
    assert prepared.shape == shape
    assert prepared.input_size == 64


@pytest.mark.parametrize("side", [1, 7, 100, 333, 1000, 1023, 1025, 4000])
def test_the_resized_shape_is_rounded_as_segment_anything_does(side: int) -> None:
    for other in (side, side + 1, 2 * side + 1, 3 * side):
        assert resized_shape((side, other), 1024) == ResizeLongestSide.get_preprocess_shape(side, other, 1024)
        assert resized_shape((other, side), 1024) == ResizeLongestSide.get_preprocess_shape(other, side, 1024)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_fixed_window_maps_its_ends_to_black_and_white(dtype: type) -> None:
    plane: NDArray[Any] = np.array([[-1000, -150, 50, 250, 3000]], dtype)
    gray = to_rgb8(plane, Preprocessing(window=(-150, 250)))[0, :, 0]
    assert gray.tolist() == [0, 0, 128, 255, 255]


def test_a_fixed_window_applies_to_uint8_rgb_and_to_bool_too() -> None:
    assert to_rgb8(np.full((1, 1, 3), 50, np.uint8), Preprocessing(window=(0, 100)))[0, 0].tolist() == [128] * 3
    assert to_rgb8(np.array([[False, True]]), Preprocessing(window=(0, 2)))[0, :, 0].tolist() == [0, 128]


def test_a_mask_without_a_gap_or_without_a_pixel_keeps_its_meaning() -> None:
    assert (to_rgb8(np.ones((4, 4), bool)) == 255).all()
    assert (to_rgb8(np.zeros((4, 4), bool)) == 0).all()


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_a_ct_window_is_found_by_its_name(name: str) -> None:
    low, high = CT_WINDOWS[name]
    plane = np.array([[low - 1, low, (low + high) / 2, high, high + 1]])
    assert to_rgb8(plane, Preprocessing.ct(name))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_an_unknown_ct_window_names_those_that_there_are() -> None:
    with raises(InputError, "unknown-ct-window", match=r"'kidney'.*abdomen.*lung"):
        Preprocessing.ct("kidney")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("window", [None, (0.0, 100.0)])
def test_nan_is_black_and_infinities_are_the_ends(
    rng: np.random.Generator, dtype: type, window: tuple[float, float] | None
) -> None:
    plane: NDArray[Any] = rng.uniform(0, 100, (30, 30)).astype(dtype)
    clean = plane[1:]
    low, high = window or np.percentile(clean.astype(np.float64), (0.1, 99.9))
    plane[0] = clean[0]
    plane[0, :3] = np.nan, np.inf, -np.inf
    plane[0, 3:] = np.nan
    rgb = to_rgb8(plane, Preprocessing(window=window))
    assert rgb[0, :4, 0].tolist() == [0, 255, 0, 0]
    _assert_close(rgb[1:], _by_hand(clean, low, high))


@pytest.mark.parametrize("value", [0, 7, -3.5, np.nan, -np.inf])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (5, 4, 3)])
def test_a_plane_without_contrast_gives_black(value: float, shape: tuple[int, ...]) -> None:
    prepared = prepare(np.full(shape, value, np.float32), 32)
    assert max(prepared.resized_shape) == 32
    assert not prepared.pixels.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (1, 2), (2000, 3)])
def test_thin_planes_keep_at_least_one_pixel(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    prepared = prepare(rng.random(shape), 64)
    assert max(prepared.resized_shape) == 64
    assert min(prepared.resized_shape) >= 1
    assert prepared.pixels.shape == (*prepared.resized_shape, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_object_smaller_than_the_percentiles_leave_out_is_still_visible(dtype: type) -> None:
    plane: NDArray[Any] = np.zeros((200, 200), dtype)
    plane[100, 100:105] = 30  # 5 of 40000 pixels: the 99.9th percentile is background
    gray = to_rgb8(plane)[..., 0]
    assert (gray[100, 100:105] == 255).all()
    assert np.count_nonzero(gray) == 5


@pytest.mark.parametrize(
    ("image", "code", "named"),
    [
        (np.zeros(5), "image-not-a-plane", r"\(5,\)"),
        (np.zeros((2, 3, 4, 3)), "image-not-a-plane", r"\(2, 3, 4, 3\)"),
        (np.zeros((4, 4, 5)), "channels-not-colours", r"\(4, 4, 5\)"),
        (np.zeros((4, 4, 2)), "channels-not-colours", r"\(4, 4, 2\)"),
        (np.float32(3), "image-not-a-plane", r"\(\)"),
        (np.zeros((0, 4)), "image-empty", r"\(0, 4\)"),
        (np.zeros((4, 0, 3)), "image-empty", r"\(4, 0, 3\)"),
        (np.array([["a", "b"]]), "image-not-numeric", "U1"),
        (np.zeros((2, 2), complex), "image-not-numeric", "complex"),
        (np.array([[None, 1]]), "image-not-numeric", "object"),
        (np.zeros((2, 2), "datetime64[s]"), "image-not-numeric", "datetime64"),
    ],
)
def test_what_is_not_a_plane_is_refused(image: Any, code: str, named: str) -> None:
    with raises(ChannelError if code == "channels-not-colours" else InputError, code, match=named):
        prepare(image, 64)


@pytest.mark.parametrize(("shape", "channel"), [((4, 4, 5), 5), ((4, 4, 5), -6), ((4, 4), 1), ((4, 4, 3), 3)])
def test_a_channel_that_is_not_there_is_refused(shape: tuple[int, ...], channel: int) -> None:
    count = shape[2] if len(shape) == 3 else 1
    with raises(InputError, "channel-not-found", match=f"{channel}: the image has {count}"):
        prepare(np.zeros(shape), 64, Preprocessing(channel=channel))


@pytest.mark.parametrize("shape", [(5,), (2, 4, 4, 5)])
def test_a_picked_channel_does_not_make_a_plane_of_other_dimensions(shape: tuple[int, ...]) -> None:
    with raises(InputError, "image-not-a-plane"):
        prepare(np.zeros(shape), 64, Preprocessing(channel=0))


def test_equal_pixels_have_equal_keys(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (40, 30)).astype(np.uint8)
    key = prepare(image, 64).key
    assert prepare(image.copy(), 64).key == key
    assert prepare(image.astype(np.float64), 64).key == key
    assert prepare(image.astype(">u2"), 64).key == key


def test_a_key_changes_with_a_pixel_the_window_the_size_and_the_shape(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    changed = image.copy()
    changed[5, 5, 0] ^= 1
    blank = np.zeros((64, 32), np.uint8)
    keys = [
        prepare(image, 64).key,
        prepare(changed, 64).key,
        prepare(image, 32).key,
        prepare(image, 64, Preprocessing(window=(0, 100))).key,
        prepare(image, 64, Preprocessing(channel=0)).key,
        prepare(blank, 64).key,
        prepare(blank.T, 64).key,
        prepare(np.zeros((128, 64), np.uint8), 64).key,  # the same pixels from another plane
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("shape", [(64, 48), (64, 48, 3), (128, 96, 3), (64, 48, 4)])
@pytest.mark.parametrize("preprocessing", [None, Preprocessing(window=(0, 255))])
def test_changing_the_array_later_changes_nothing(
    rng: np.random.Generator, shape: tuple[int, ...], preprocessing: Preprocessing | None
) -> None:
    image = rng.integers(0, 256, shape).astype(np.uint8)
    before = image.copy()
    prepared = prepare(image, 64, preprocessing)
    np.testing.assert_array_equal(image, before)
    key, pixels = prepared.key, prepared.pixels.copy()
    image[:] = 255 - image
    np.testing.assert_array_equal(prepared.pixels, pixels)
    assert prepared.key == key


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(window=(-1, 2.5), percentiles=(1, 99), channel=3),
        Preprocessing(window=(0.0, 80.0)),
        Preprocessing(channel=0),
    ],
)
def test_preprocessing_survives_json(preprocessing: Preprocessing) -> None:
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.as_dict())))
    assert again == preprocessing
    assert hash(again) == hash(preprocessing)


@pytest.mark.parametrize(
    "window",
    [(5.0, 5.0), (5.0, 1.0), (np.nan, 1.0), (0.0, np.nan), (0.0, np.inf), (-np.inf, 0.0), (0.0,), (0.0, 1.0, 2.0)],
)
def test_windows_that_are_no_ranges_are_refused(window: Any) -> None:
    with raises(InputError, "invalid-window"):
        Preprocessing(window=window)


@pytest.mark.parametrize(
    ("percentiles", "code"),
    [((-1, 99), "percentiles-out-of-range"), ((0, 100.5), "percentiles-out-of-range")]
    + [(pair, "invalid-percentiles") for pair in ((50, 50), (99, 1), (np.nan, 99), (1,), ())],
)
def test_percentiles_that_are_no_ranges_are_refused(percentiles: Any, code: str) -> None:
    with raises(InputError, code):
        Preprocessing(percentiles=percentiles)
