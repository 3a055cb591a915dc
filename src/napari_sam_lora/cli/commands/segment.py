"""Segment images, from prompts in a file or without prompts, and write label images.

Without --prompts everything is segmented, plane by plane in stacks: by the model's dense head if it has one, otherwise
(or with --method clicks) by a grid of clicks. With --semantic the class of each pixel is written instead of objects, by
an adapter that was trained on classes. With --propagate the objects of --prompts or --seeds are followed through
stacks. The labels of each image are written to FOLDER/NAME.tif (NIfTI
images: to NIfTI), with one number an object and 0 for background; after
corrections the folder can be used as labels/ of a training set.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.cli.commands import propagate
from napari_sam_lora.cli.console import Console, check_output, one_line
from napari_sam_lora.cli.loading import base_name, open_model
from napari_sam_lora.cli.options import add_options, add_section, options_in
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.datasets import name_some
from napari_sam_lora.io.images import ImageFile, list_images, read_image, stem
from napari_sam_lora.io.tables.prompts import PlanePrompts, PromptFile, read_prompts
from napari_sam_lora.io.volumes import attributes_of
from napari_sam_lora.io.writers import FORMATS, default_ending, save_labels
from napari_sam_lora.labels import add_masks
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.run import ModelSettings, PreprocessingSettings
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.api import Model

NAME = "segment"
HELP = "segment images, from prompts or everything, to label images"
ENDINGS = (".tif", ".ome.tif", ".nii.gz", ".nii")
HEAD, CLICKS, TILES = "everything mode with the dense head", "everything mode with clicks", "large planes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the label images go")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="boxes and points (.csv or .json)")
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="segment with this adapter")
    parser.add_argument(
        "--axes", metavar="TEXT", help="axes of TIFF, NIfTI and .npy files that do not name them: ZYX, CYX"
    )
    parser.add_argument(
        "--format",
        choices=[ending[1:] for ending in ENDINGS],
        help="format of the label files (default: that of the image for NIfTI, nii.gz for DICOM, or else tif); all "
        "keep the pixel size, NIfTI also the affine",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace label files that exist")
    there.add_argument("--skip-existing", action="store_true", help="leave out images that have a label file already")
    add_section(parser, "model", ModelSettings, skip=("start",))
    add_section(parser, "preprocessing", PreprocessingSettings)
    parser.add_argument(
        "--method",
        choices=("head", "clicks"),
        help="find everything with the dense head or with a grid of clicks (default: the head where there is one)",
    )
    parser.add_argument(
        "--semantic",
        action="store_true",
        help="write the class of each pixel instead of one number an object (adapters trained on classes)",
    )
    add_options(parser, HEAD, InstanceConfig, skip=("smallest",))
    add_options(parser, CLICKS, EverythingConfig, skip=("point_grids",))
    propagate.add_arguments(parser)
    add_options(parser, TILES, TilingConfig)
    parser.add_argument(
        "--smallest",
        type=int,
        metavar="N",
        help="leave out objects with fewer pixels (default: what suits the dense head, or 0 without it)",
    )
    parser.usage = "%(prog)s IMAGES... --output FOLDER [options]"
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Segment all images."""
    prompts = read_prompts(options.prompts) if options.prompts else None
    everything = {**options_in(options, CLICKS), **options_in(options, HEAD)}
    followed = propagate.propagation_config(options)
    if (prompts or followed) and (everything or options.method or options.semantic):
        other = "--propagate" if followed else "--prompts"
        option = next(iter(everything), "method" if options.method else "semantic").replace("_", "-")
        raise InputError(
            f"--{option} belongs to everything mode and cannot be used with {other}.",
            code="option-of-everything-mode",
        )
    tiling = TilingConfig(**options_in(options, TILES))
    images = find_images(options.images)
    if prompts:
        images = _prompted(images, prompts, console)
    targets = _targets(images, options.output, options.format)
    if options.skip_existing:
        targets = {image: target for image, target in targets.items() if not target.exists()}
        console.say(f"{len(images) - len(targets)} of {len(images)} images have a label file already.")
    check_output(list(targets.values()), options.overwrite)
    if targets:
        model, axes = _model(options, console), options.axes
        segmenter: _Segmenter | propagate.Propagator
        if followed:
            segmenter = propagate.Propagator(model, followed, tiling, prompts, options.seeds, options.seed_plane, axes)
        else:
            search = None if prompts else _search(model, options)
            segmenter = _Segmenter(model, prompts, search, tiling, options.smallest, axes, options.semantic)
        _segment_all(segmenter, targets, console, options.semantic)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List the images of files and folders, each once.

    Raises
    ------
    InputError
        If one of the paths does not exist, or a folder holds no image.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            images = list_images(path)
            if not images:
                raise InputError(f"The folder {path} holds no image.", code="no-image-in-folder")
            found |= dict.fromkeys(images)
        elif path.is_file():
            found[path] = None
        else:
            raise InputError(f"There is no file or folder {path}.", code="file-not-found")
    return list(found)


def _prompted(images: list[Path], prompts: PromptFile, console: Console) -> list[Path]:
    """Return the images with prompts, and warn about the others."""
    if not prompts.images and len(images) > 1:
        raise InputError(
            f"{prompts.path.name} does not say which image its prompts belong to, and there are several.",
            code="prompts-without-image",
        )
    kept = [image for image in images if prompts.for_image(image)]
    if not kept:
        raise InputError(
            f"{prompts.path.name} names none of the images; it has {name_some(prompts.images)}.",
            code="prompts-of-other-images",
        )
    unused = prompts.unused(images)
    if unused:
        console.warn(f"{prompts.path.name} names images that are not among those to segment: {name_some(unused)}.")
    if len(kept) < len(images):
        lone = [image.name for image in images if image not in kept]
        console.warn(f"{len(lone)} images without prompts are left out: {name_some(lone)}.")
    return kept


def _targets(images: Sequence[Path], folder: Path, kind: str | None) -> dict[Path, Path]:
    """Return the label file of each image."""
    if folder.name.lower().endswith(FORMATS) and not folder.is_dir():
        raise InputError(
            f"--output is a folder, not a file such as {folder.name}; --format chooses the format of its files: "
            f"{', '.join(ending[1:] for ending in ENDINGS)}.",
            code="output-is-a-file",
        )
    targets: dict[Path, Path] = {}
    for image in images:
        target = folder / f"{stem(image)}{f'.{kind}' if kind else default_ending(image, ENDINGS)}"
        rival = next((other for other, its_target in targets.items() if its_target == target), None)
        if rival is not None:
            raise InputError(
                f"{rival} and {image} would both be written to {target}; segment them to two folders.",
                code="outputs-of-one-name",
            )
        if target.exists() and any(target.samefile(other) for other in images):
            raise InputError(
                f"The labels of {image} would replace the image {target}; choose another --output.",
                code="output-is-input",
            )
        targets[image] = target
    return targets


def _model(options: argparse.Namespace, console: Console) -> Model:
    values, window = options_in(options, "model"), options_in(options, "preprocessing")
    if options.adapter is None:
        return open_model(ModelSettings(**values), PreprocessingSettings(**window).resolve(), console)
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    fixed = [name for name in (*window, "input_size") if name in values or name in window]
    if fixed:
        raise InputError(
            f"--{fixed[0].replace('_', '-')} cannot be combined with --adapter, which has its own setting.",
            code="option-fixed-by-adapter",
        )
    adapter = Adapter.load(options.adapter)
    settings = ModelSettings(**values | {"name": base_name(adapter, values.get("name"))})
    model = open_model(settings, None, console)
    model.activate(adapter)
    return model


def _search(model: Model, options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Model.segment_everything` for the dense head or for a grid of clicks."""
    from napari_sam_lora.stacks.dense import dense_model  # noqa: PLC0415  torch is imported when it is needed

    by_head, by_clicks = options_in(options, HEAD), options_in(options, CLICKS)
    tiles = options_in(options, TILES)
    method = options.method
    if method is None:
        is_head = model.predictor.dense is not None and not by_clicks and not tiles
        method = "head" if by_head or is_head or options.semantic else "clicks"
    unused = by_head if method == "clicks" else by_clicks | tiles
    if unused:
        option = next(iter(unused)).replace("_", "-")
        raise InputError(f"--{option} is not used with --method {method}.", code="option-of-other-method")
    if options.semantic:
        return _semantic_search(model, by_head, options)
    if method == "head":
        instances = dataclasses.replace(dense_model(model.predictor).instances, **by_head)
        return {"method": "head", "instances": instances, "smallest": options.smallest}
    return {
        "config": EverythingConfig(**by_clicks),
        "smallest": options.smallest or 0,
        "tiling": TilingConfig(**tiles),
    }


def _semantic_search(model: Model, by_head: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Model.segment_semantic`; refuse options of single objects."""
    from napari_sam_lora.stacks.dense import model_with_classes  # noqa: PLC0415

    unused = [name for name in by_head if name not in ("sensitivity", "foreground_smoothing")]
    unused += ["method"] if options.method == "clicks" else []
    unused += [] if options.smallest is None else ["smallest"]
    if unused:
        option = unused[0].replace("_", "-")
        raise InputError(f"--{option} is not used with --semantic.", code="option-of-other-method")
    instances = model_with_classes(model.predictor).instances
    return {"instances": dataclasses.replace(instances, **by_head)}


class _Segmenter:
    """Segments images from prompts or without, plane by plane."""

    def __init__(
        self,
        model: Model,
        prompts: PromptFile | None,
        search: dict[str, Any] | None,
        tiling: TilingConfig,
        smallest: int | None,
        axes: str | None,
        semantic: bool = False,
    ) -> None:
        self._semantic = semantic
        self._model, self._prompts, self._search, self._tiling = model, prompts, search or {}, tiling
        self._smallest, self._axes = smallest or 0, axes

    def labels(self, path: Path, bar: Any) -> NDArray[np.int64]:
        """Return the label image (..., y, x) of an image, and advance the bar by one."""
        image = read_image(path, self._axes)
        prompts = None if self._prompts is None else self._prompts.for_image(path)
        if prompts and max(prompts) >= image.plane_count:
            raise InputError(
                f"there are prompts for plane {max(prompts)}, but the planes are 0 to {image.plane_count - 1}.",
                code="plane-outside-stack",
            )
        out = np.zeros((image.plane_count, *image.plane_shape), np.int64)
        for number, plane in enumerate(image.planes()):
            if prompts is None:
                out[number] = self._all(plane, image, bar, out[:number])
            else:
                if number in prompts:
                    out[number] = self._prompted(plane, prompts[number])
                bar.update(1 / image.plane_count)
        return out.reshape(*image.stack_shape, *image.plane_shape)

    def _all(self, plane: NDArray[Any], image: ImageFile, bar: Any, before: NDArray[np.int64]) -> NDArray[np.int64]:
        """Segment everything in a plane; ids that are not classes differ from those of the planes before."""
        done = 0.0

        def progress(batches: int, total: int) -> None:
            nonlocal done
            bar.update(batches / total / image.plane_count - done)
            done = batches / total / image.plane_count

        segment = self._model.segment_semantic if self._semantic else self._model.segment_everything
        labels = segment(plane, progress=progress, **self._search).astype(np.int64)
        bar.update(1 / image.plane_count - done)
        if self._semantic:
            return labels
        return np.where(labels > 0, labels + before.max(initial=0), 0)

    def _prompted(self, plane: NDArray[Any], plane_prompts: PlanePrompts) -> NDArray[np.int64]:
        """Segment the prompted objects of a plane, with the ids of the prompt file."""
        from napari_sam_lora.prompts import ObjectPrompts  # noqa: PLC0415
        from napari_sam_lora.stacks.everything import is_tiled, segment_prompted  # noqa: PLC0415

        plane_prompts.check_inside(plane.shape[:2])
        if is_tiled((plane.shape[0], plane.shape[1]), self._model.predictor, self._tiling):
            by_id = dict(zip(plane_prompts.ids, ObjectPrompts.from_prompts(plane_prompts.prompts), strict=True))
            found = segment_prompted(self._model.predictor, plane, by_id, self._tiling)
            small = np.flatnonzero(np.bincount(found.ravel()) < self._smallest)
            return np.where(np.isin(found, small), 0, found)
        result = self._model.segment(self._model.encode(plane), plane_prompts.prompts)
        rows = add_masks(np.zeros(plane.shape[:2], np.int64), result.masks, result.scores)
        sizes = np.bincount(rows.ravel(), minlength=len(plane_prompts.ids) + 1)
        ids = np.array([0, *plane_prompts.ids], np.int64)
        ids[sizes < self._smallest] = 0
        return ids[rows]


def _segment_all(
    segmenter: _Segmenter | propagate.Propagator, targets: dict[Path, Path], console: Console, semantic: bool
) -> None:
    """Segment and write all images; report those that cannot be segmented, and continue with the others."""
    failed: list[str] = []
    objects = 0
    layout = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with console.bar("segmenting", len(targets), "image", bar_format=layout) as bar:
        for number, (image, target) in enumerate(targets.items(), start=1):
            bar.set_description(f"{image.name} ({number} of {len(targets)})", refresh=False)
            try:
                labels = segmenter.labels(image, bar)
                save_labels(target, labels, attributes_of(image), overwrite=True)
                ids = np.unique(labels[labels > 0]).tolist()
                objects += len(ids)
                classes = f"classes {', '.join(map(str, ids))}" if ids else "no class"
                console.say(f"{target}: {classes if semantic else pluralize(len(ids), 'object')}")
            except InputError as error:
                text = str(error) if image.name in str(error) else f"{image.name}: {error}"
                if len(targets) == 1:
                    raise InputError(text, code=error.code) from error
                failed.append(image.name)
                console.report_error(one_line(error, text))
            bar.update(number - bar.n)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(targets)} images were not segmented: {name_some(failed)}.",
            code="images-not-segmented",
        )
    if len(targets) > 1 and not semantic:
        console.say(f"{pluralize(objects, 'object')} in {pluralize(len(targets), 'image')}.")
