"""DICOM files with several frames, colours, time series and segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from dicom_files import (
    AXIAL,
    SAGITTAL,
    compress,
    dataset,
    group,
    groups,
    measures,
    place,
    save,
    save_table_of_contents,
    segmentation,
    stack,
)
from error_codes import raises
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless
from volume_files import load, write_series
from warning_codes import warns

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import read_image
from napari_sam_lora.io.placement import layer_affine
from napari_sam_lora.io.volumes import read_layers
from napari_sam_lora.io.writers import save_labels

TURNED = group("PlaneOrientationSequence", ImageOrientationPatient=list(AXIAL))


def _planes(count: int = 5, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 250, (count, 4, 6)).astype(dtype)


def _at(depths: Any) -> list[list[float]]:
    return [[10.0, -20.0, float(depth)] for depth in depths]


def _world(attributes: dict[str, Any], index: tuple[int, ...]) -> Any:
    return (layer_affine(attributes, 3) @ [*index, 1])[:3]


class TestFramesWithPlaces:
    """Enhanced MR and CT: each frame says where it lies."""

    def test_frames_are_sorted_by_where_they_lie(self, tmp_path: Path) -> None:
        order = [3, 0, 4, 1, 2]
        frames = [groups(*place(at)) for at in _at(2.5 * np.array(order))]
        path = save(tmp_path / "a.dcm", stack(_planes()[order], frames, TURNED, measures()))
        ((shown, attributes, kind),) = read_layers(path)
        assert kind == "image"
        np.testing.assert_array_equal(shown, _planes())
        np.testing.assert_allclose(attributes["scale"], (2.5, 0.5, 0.25))
        assert attributes["units"] == ("mm",) * 3
        np.testing.assert_allclose(_world(attributes, (1, 0, 0)), (2.5, -20, 10))

    def test_labels_of_them_have_their_affine(self, tmp_path: Path) -> None:
        frames = [groups(*place(at)) for at in _at((0, 2.5, 5))]
        path = save(tmp_path / "a.dcm", stack(_planes(3), frames, TURNED, measures()))
        ((shown, attributes, _),) = read_layers(path)
        (written,) = save_labels(tmp_path / "a.nii.gz", shown.astype(np.uint8), attributes)
        expected = np.diag([-0.25, -0.5, 2.5, 1])
        expected[:2, 3] = -10, 20
        np.testing.assert_allclose(load(written).affine, expected)
        np.testing.assert_array_equal(np.asarray(load(written).dataobj), _planes(3).transpose(2, 1, 0))

    def test_a_file_of_one_frame_lies_where_its_frame_says(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.dcm", stack(_planes(1), [groups(*place((1, 2, 3), AXIAL))], measures()))
        ((shown, attributes, _),) = read_layers(path)
        np.testing.assert_array_equal(shown, _planes(1))
        np.testing.assert_allclose(_world(attributes, (0, 0, 0)), (3, 2, 1))
        np.testing.assert_allclose(attributes["scale"], (3, 0.5, 0.25))

    def test_each_frame_is_rescaled_by_its_own_slope(self, tmp_path: Path) -> None:
        frames = [
            groups(
                *place(at),
                group("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=-1024),
            )
            for at, slope in zip(_at((0, 1, 2)), (1, 2, 4), strict=True)
        ]
        path = save(tmp_path / "a.dcm", stack(_planes(3), frames, TURNED, measures(), modality="CT"))
        ((shown, _, _),) = read_layers(path)
        assert shown.dtype == np.int16
        np.testing.assert_array_equal(shown, _planes(3) * np.array([1, 2, 4])[:, None, None] - 1024)

    def test_fractions_make_real_numbers(self, tmp_path: Path) -> None:
        slope = group("PixelValueTransformationSequence", RescaleSlope=0.5, RescaleIntercept=0)
        frames = [groups(*place(at)) for at in _at((0, 1, 2))]
        path = save(tmp_path / "a.dcm", stack(_planes(3), frames, TURNED, measures(), slope))
        ((shown, _, _),) = read_layers(path)
        assert shown.dtype == np.float32
        np.testing.assert_array_equal(shown, _planes(3) / 2)

    def test_places_that_are_there_several_times_are_sorted_by_time(self, tmp_path: Path) -> None:
        keys = [(1, 2), (0, 1), (1, 1), (0, 2)]  # slice, time
        frames = [groups(*place(_at([z])[0]), group("FrameContentSequence", TemporalPositionIndex=t)) for z, t in keys]
        path = save(tmp_path / "a.dcm", stack(_planes(4), frames, TURNED, measures()))
        ((shown, attributes, _),) = read_layers(path)
        assert attributes["axis_labels"] == ("t", "z", "y", "x")
        np.testing.assert_array_equal(shown, _planes(4)[[[1, 2], [3, 0]]])

    def test_dimensions_sort_frames_of_one_place(self, tmp_path: Path) -> None:
        frames = [
            groups(*place(_at([z])[0]), group("FrameContentSequence", DimensionIndexValues=[z + 1, echo]))
            for z, echo in [(0, 2), (1, 2), (0, 1), (1, 1)]
        ]
        path = save(tmp_path / "a.dcm", stack(_planes(4), frames, TURNED, measures()))
        np.testing.assert_array_equal(read_layers(path)[0][0], _planes(4)[[[2, 3], [0, 1]]])

    def test_frames_that_are_turned_are_a_layer_of_their_own(self, tmp_path: Path) -> None:
        frames = [
            *(groups(*place(at, AXIAL)) for at in _at((0, 1))),
            *(groups(*place((x, 0, 0), SAGITTAL)) for x in (4, 0, 2)),
        ]
        path = save(tmp_path / "three planes.dcm", stack(_planes(), frames, measures()))
        axial, sagittal = read_layers(path)
        np.testing.assert_array_equal(axial[0], _planes()[:2])
        np.testing.assert_array_equal(sagittal[0].shape, (4, 6, 3))
        np.testing.assert_allclose(sagittal[1]["scale"], (0.5, 0.25, 2))
        with raises(InputError, "several-series", match=r"three planes\.dcm holds 2 .*napari"):
            read_image(path)

    def test_stacks_and_pixel_sizes_are_kept_apart(self, tmp_path: Path) -> None:
        frames = [
            groups(*place(at), group("FrameContentSequence", StackID=name))
            for name, at in zip("1122", _at((0, 1, 30, 31)), strict=True)
        ]
        two = read_layers(save(tmp_path / "a.dcm", stack(_planes(4), frames, TURNED, measures())))
        assert [len(layer[0]) for layer in two] == [2, 2]
        frames = [
            groups(*place(at), measures((side, side))) for at, side in zip(_at((0, 1, 0, 1)), (1, 1, 2, 2), strict=True)
        ]
        two = read_layers(save(tmp_path / "b.dcm", stack(_planes(4), frames, TURNED)))
        assert [layer[1]["scale"][1] for layer in two] == [1, 2]

    def test_rounding_errors_of_an_orientation_do_not_split_a_stack(self, tmp_path: Path) -> None:
        frames = [
            groups(*place(at, (0.9995 + 1e-7 * (-1) ** number, -0.0316, 0, 0.0316, 0.9995, 0)))
            for number, at in enumerate(_at((0, 1, 2)))
        ]
        ((shown, _, _),) = read_layers(save(tmp_path / "a.dcm", stack(_planes(3), frames, measures())))
        assert len(shown) == 3

    def test_an_incomplete_file_is_refused(self, tmp_path: Path) -> None:
        frames = [groups(*place(at)) for at in _at((0, 1, 2, 0, 1))]
        path = save(tmp_path / "a.dcm", stack(_planes(), frames, TURNED, measures()))
        with raises(InputError, "series-incomplete", match=" 1 .* 2 "):
            read_layers(path)

    def test_frames_without_groups_are_damage(self, tmp_path: Path) -> None:
        frames = [groups(*place(at)) for at in _at((0, 1, 2))]
        path = save(tmp_path / "a.dcm", stack(_planes(5), frames, TURNED, measures()))
        with raises(InputError, "file-not-readable", match=r"a\.dcm"):
            read_layers(path)

    def test_shifted_slices_give_a_warning(self, tmp_path: Path) -> None:
        frames = [groups(*place(at)) for at in ((0, 0, 0), (5, 0, 1), (0, 0, 2), (0, 0, 3))]
        path = save(tmp_path / "a.dcm", stack(_planes(4), frames, TURNED, measures()))
        with warns("uneven-slices"):
            read_layers(path)

    def test_a_dose_is_a_stack(self, tmp_path: Path) -> None:
        one = dataset(_planes(3), "RTDOSE", PixelSpacing=[2, 2], GridFrameOffsetVector=[0, 5, 10])
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 7], list(AXIAL)
        ((shown, attributes, _),) = read_layers(save(tmp_path / "dose.dcm", one))
        np.testing.assert_array_equal(shown, _planes(3))
        np.testing.assert_allclose(attributes["scale"], (5, 2, 2))

    def test_slices_of_nuclear_medicine_may_go_down(self, tmp_path: Path) -> None:
        detector = Dataset()
        detector.ImagePositionPatient, detector.ImageOrientationPatient = [0, 0, 50], list(AXIAL)
        one = dataset(_planes(3), "NM", PixelSpacing=[2, 2], SpacingBetweenSlices=-4, SliceVector=[1, 2, 3])
        one.DetectorInformationSequence = [detector]
        ((shown, attributes, _),) = read_layers(save(tmp_path / "spect.dcm", one))
        np.testing.assert_array_equal(shown, _planes(3)[::-1])
        np.testing.assert_allclose(_world(attributes, (2, 0, 0)), (50, 0, 0))


class TestTimeSeriesAndPictures:
    """Images without a position."""

    def test_an_ultrasound_time_series_has_time_and_the_pixel_size_of_its_region(self, tmp_path: Path) -> None:
        region = Dataset()
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # centimetres
        region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
        colours = np.random.default_rng(0).integers(0, 255, (3, 4, 6, 3)).astype(np.uint8)
        one = dataset(colours, "US", FrameTime=40, SequenceOfUltrasoundRegions=[region])
        path = save(tmp_path / "heart.dcm", one)
        ((shown, attributes, kind),) = read_layers(path)
        assert (kind, attributes["rgb"]) == ("image", True)
        np.testing.assert_array_equal(shown, colours)
        np.testing.assert_allclose(attributes["scale"], (0.04, 0.3, 0.2))
        assert attributes["units"] == ("s", "mm", "mm")
        assert attributes["axis_labels"] == ("t", "y", "x")
        file = read_image(path)
        assert (file.stack_shape, file.has_channels) == ((3,), True)

    def test_frames_of_which_nothing_is_known_are_counted_in_pixels(self, tmp_path: Path) -> None:
        ((shown, attributes, _),) = read_layers(save(tmp_path / "capture.dcm", dataset(_planes(), "OT")))
        np.testing.assert_array_equal(shown, _planes())
        assert attributes["units"] == ("pixel",) * 3
        assert attributes["axis_labels"] == ("frame", "y", "x")
        assert list(attributes["scale"]) == [1, 1, 1]

    def test_frames_with_a_distance_are_a_stack(self, tmp_path: Path) -> None:
        one = dataset(_planes(), "OT", PixelSpacing=[0.5, 0.25], SpacingBetweenSlices=3)
        ((_, attributes, _),) = read_layers(save(tmp_path / "capture.dcm", one))
        assert list(attributes["scale"]) == [3, 0.5, 0.25]
        assert attributes["axis_labels"] == ("z", "y", "x")
        assert attributes["units"] == ("mm",) * 3

    def test_an_x_ray_is_one_plane_with_the_pixel_size_of_its_detector(self, tmp_path: Path) -> None:
        one = dataset(_planes(1), "DX", ImagerPixelSpacing=[0.15, 0.15])
        ((shown, attributes, _),) = read_layers(save(tmp_path / "hand.dcm", one))
        assert shown.shape == (4, 6)
        np.testing.assert_allclose(attributes["scale"], (0.15, 0.15))
        assert attributes["units"] == ("mm", "mm")

    def test_time_series_of_one_dicom_series_stay_apart(self, tmp_path: Path) -> None:
        for name in "ab":
            save(tmp_path / f"{name}.dcm", dataset(_planes(), "US", FrameTime=40, SeriesInstanceUID="1.2.3"))
        assert [layer[0].shape for layer in read_layers(tmp_path)] == [(5, 4, 6)] * 2

    def test_a_palette_is_shown_in_its_colours(self, tmp_path: Path) -> None:
        one = dataset(np.array([[[0, 1], [2, 1]]], np.uint8), "US")
        one.PhotometricInterpretation = "PALETTE COLOR"
        for colour, entries in (("Red", [0, 255, 10]), ("Green", [0, 20, 30]), ("Blue", [5, 6, 7])):
            setattr(one, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
            setattr(one, f"{colour}PaletteColorLookupTableData", (np.array(entries, np.uint16) * 257).tobytes())
        ((shown, attributes, _),) = read_layers(save(tmp_path / "a.dcm", one))
        assert attributes["rgb"]
        assert shown.tolist() == [[[0, 0, 5], [255, 20, 6]], [[10, 30, 7], [255, 20, 6]]]

    def test_colours_with_a_place_keep_both(self, tmp_path: Path) -> None:
        colours = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3)).astype(np.uint8)
        frames = [groups(*place(at)) for at in _at((3, 1))]
        ((shown, attributes, _),) = read_layers(save(tmp_path / "a.dcm", stack(colours, frames, TURNED, measures())))
        np.testing.assert_array_equal(shown, colours[::-1])
        np.testing.assert_allclose(attributes["scale"], (2, 0.5, 0.25))


class TestSegmentations:
    """Modality SEG."""

    def _masks(self) -> NDArray[np.bool_]:
        masks = np.zeros((4, 4, 6), bool)
        masks[0, 1:3, 1:3] = masks[1, 1:3, 1:4] = masks[2, 0, :] = masks[3, 3, 5] = True
        return masks

    def test_segments_become_ids_and_empty_slices_are_filled(self, tmp_path: Path) -> None:
        one = segmentation(self._masks(), _at((0, 2, 2, 6)), (1, 1, 2, 2))
        ((shown, attributes, kind),) = read_layers(save(tmp_path / "seg.dcm", one))
        assert kind == "labels"
        expected = np.zeros((4, 4, 6), int)
        expected[0], expected[1] = self._masks()[0], self._masks()[1]
        expected[1][self._masks()[2]] = 2
        expected[3][self._masks()[3]] = 2
        np.testing.assert_array_equal(shown, expected)
        np.testing.assert_allclose(attributes["scale"], (2, 0.5, 0.25))

    def test_it_lies_on_its_image(self, tmp_path: Path) -> None:
        frames = [groups(*place(at)) for at in _at((0, 2, 4, 6))]
        image = save(tmp_path / "mr.dcm", stack(_planes(4), frames, TURNED, measures()))
        seg = save(tmp_path / "seg.dcm", segmentation(self._masks(), _at((0, 2, 4, 6)), (1, 1, 1, 1)))
        one, other = read_layers(image)[0], read_layers(seg)[0]
        assert one[0].shape == other[0].shape
        np.testing.assert_allclose(layer_affine(one[1], 3), layer_affine(other[1], 3))

    def test_overlapping_segments_give_a_warning(self, tmp_path: Path) -> None:
        masks = np.ones((2, 4, 6), bool)
        path = save(tmp_path / "seg.dcm", segmentation(masks, _at((0, 0)), (2, 1)))
        with warns("segments-overlap"):
            ((shown, _, _),) = read_layers(path)
        assert (shown == 2).all()

    def test_of_fractions_half_and_more_is_inside(self, tmp_path: Path) -> None:
        one = segmentation(
            self._masks()[:1], _at((0,)), (1,), SegmentationType="FRACTIONAL", MaximumFractionalValue=255
        )
        one.BitsAllocated, one.BitsStored, one.HighBit = 8, 8, 7
        values = np.zeros((4, 6), np.uint8)
        values[0, :3] = 100, 128, 255
        one.PixelData = values.tobytes()
        ((shown, _, _),) = read_layers(save(tmp_path / "seg.dcm", one))
        assert np.argwhere(shown[0]).tolist() == [[0, 1], [0, 2]]

    def test_uneven_slices_are_refused(self, tmp_path: Path) -> None:
        path = save(tmp_path / "seg.dcm", segmentation(self._masks(), _at((0, 2, 5, 6.7)), (1, 1, 1, 1)))
        with raises(InputError, "uneven-slices", match="organs"):
            read_layers(path)


class TestFiles:
    """Tests of finding and decoding files."""

    def test_the_table_of_contents_of_a_disc_is_no_image(self, tmp_path: Path) -> None:
        data = np.random.default_rng(0).integers(-900, 900, (3, 4, 5)).astype(np.int16)
        write_series(tmp_path / "DICOM" / "1", data, np.diag([1.0, 1, 2, 1]))
        save_table_of_contents(tmp_path)
        ((shown, _, _),) = read_layers(tmp_path)
        np.testing.assert_array_equal(shown, data)
        with raises(InputError, "no-dicom-image", match="other"):
            read_layers(save_table_of_contents(tmp_path / "other").parent)

    @pytest.mark.parametrize("kind", ["lossless", "LS"])
    def test_compressed_frames_are_read(self, tmp_path: Path, kind: str) -> None:
        planes = _planes(3) * 16
        encode = imagecodecs.ljpeg_encode if kind == "lossless" else imagecodecs.jpegls_encode
        syntax = JPEGLosslessSV1 if kind == "lossless" else JPEGLSLossless
        frames = [groups(*place(at)) for at in _at((2, 1, 0))]
        one = compress(stack(planes, frames, TURNED, measures()), [bytes(encode(plane)) for plane in planes], syntax)
        ((shown, _, _),) = read_layers(save(tmp_path / "a.dcm", one))
        np.testing.assert_array_equal(shown, planes[::-1])

    @pytest.mark.parametrize(("share", "code"), [(0.2, "no-dicom-image"), (0.9, "file-not-readable")])
    def test_a_cut_off_file_is_refused(self, tmp_path: Path, share: float, code: str) -> None:
        frames = [groups(*place(at)) for at in _at(range(5))]
        path = save(tmp_path / "a.dcm", stack(_planes(), frames, TURNED, measures()))
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with raises(InputError, code, match=r"a\.dcm"):
            read_layers(path)

    def test_a_number_that_is_none_is_damage(self, tmp_path: Path) -> None:
        one = dataset(_planes(1), InstanceNumber=12)
        path = save(tmp_path / "a.dcm", one)
        path.write_bytes(path.read_bytes().replace(b"IS\x02\x0012", b"IS\x02\x001A"))
        with raises(InputError, "file-not-readable", match=r"a\.dcm"):
            read_layers(path)

    def test_a_file_that_is_not_dicom_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_bytes(b"nothing of the kind" * 20)
        with raises(InputError, "not-dicom", match=r"a\.dcm"):
            read_layers(tmp_path / "a.dcm")
