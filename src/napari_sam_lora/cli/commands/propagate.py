"""Propagation of objects through stacks, the option ``--propagate`` of the command ``segment``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.cli.options import add_options, options_in
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import ImageFile, list_images, read_image, read_labels, stem
from napari_sam_lora.io.tables.prompts import PromptFile
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.tiling import TilingConfig

if TYPE_CHECKING:
    from napari_sam_lora.api import Model

TITLE = "propagation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of propagation."""
    parser.add_argument(
        "--propagate", action="store_true", help="propagate objects through stacks, from --prompts or --seeds"
    )
    parser.add_argument(
        "--seeds",
        type=Path,
        metavar="PATH",
        help="labels to follow: a file, or a folder with files named like the stacks; labelled planes are key planes",
    )
    parser.add_argument(
        "--seed-plane",
        type=int,
        metavar="N",
        help="plane of the stack that --seeds belong to, if they are a single plane",
    )
    add_options(parser, TITLE, PropagationConfig, skip={"smallest"})


def propagation_config(options: argparse.Namespace) -> PropagationConfig | None:
    """Return the settings of propagation, or None without --propagate.

    Raises
    ------
    InputError
        If options contradict each other.
    """
    values = options_in(options, TITLE)
    if not options.propagate:
        unused = [*values, *(name for name in ("seeds", "seed_plane") if getattr(options, name) is not None)]
        if unused:
            raise InputError(
                f"--{unused[0].replace('_', '-')} can only be used with --propagate.", code="option-without-propagate"
            )
        return None
    if (options.prompts is None) == (options.seeds is None):
        raise InputError(
            "--propagate needs objects to follow: give either --prompts or --seeds.", code="prompts-or-seeds"
        )
    if options.seed_plane is not None and options.seeds is None:
        raise InputError("--seed-plane can only be used with --seeds.", code="seed-plane-without-seeds")
    config = PropagationConfig(**values)
    return replace(config, smallest=options.smallest) if options.smallest else config


@dataclass(frozen=True, eq=False)
class Propagator:
    """Segments stacks by propagation.

    Attributes
    ----------
    model : Model
    config : PropagationConfig
    tiling : TilingConfig
    prompts : PromptFile or None
    seeds : Path or None
        File or folder of labels, if there are no prompts.
    seed_plane : int or None
    axes : str or None
        See `read_image`.
    """

    model: Model
    config: PropagationConfig
    tiling: TilingConfig
    prompts: PromptFile | None
    seeds: Path | None
    seed_plane: int | None
    axes: str | None

    def labels(self, path: Path, bar: Any) -> NDArray[np.int64]:
        """Return the label image (n, y, x) of a stack, and advance the bar by one."""
        from napari_sam_lora.stacks.propagation.propagate import propagate  # noqa: PLC0415

        image = read_image(path, self.axes)
        if len(image.stack_shape) != 1:
            raise InputError(
                f"{path.name} is {image.data.shape}, not a stack of planes along one axis.", code="not-a-stack"
            )
        seeds = self._seeds(path, image)
        out = np.zeros((image.plane_count, *image.plane_shape), np.int64)
        share = 0.0
        for done in propagate(self.model, image.data, seeds, config=self.config, tiling=self.tiling):
            done.write(out[done.index])
            if done.total:
                bar.update(done.done / done.total - share)
                share = done.done / done.total
        return out

    def _seeds(self, path: Path, image: ImageFile) -> Mapping[int, Any]:
        if self.prompts is None:
            return self._label_seeds(path, image)
        from napari_sam_lora.prompts import ObjectPrompts  # noqa: PLC0415

        prompts = self.prompts.for_image(path)
        for in_plane in prompts.values():
            in_plane.check_inside(image.plane_shape)
        return {
            number: dict(zip(in_plane.ids, ObjectPrompts.from_prompts(in_plane.prompts), strict=True))
            for number, in_plane in prompts.items()
        }

    def _label_seeds(self, path: Path, image: ImageFile) -> Mapping[int, NDArray[np.int64]]:
        source = _seed_file(path, self.seeds)
        labels = read_labels(source, self.axes if self.axes and len(self.axes) == image.data.ndim else None)
        if labels.ndim == 2:
            if self.seed_plane is None:
                raise InputError(
                    f"{source.name} is a single plane: say which one of the stack it is with --seed-plane.",
                    code="seed-plane-missing",
                )
            return {self.seed_plane: labels}
        if labels.shape != (*image.stack_shape, *image.plane_shape):
            raise InputError(
                f"{source.name} is {labels.shape}, but {path.name} is {image.data.shape}: labels and stack must fit.",
                code="labels-do-not-fit",
            )
        if self.seed_plane is not None and not 0 <= self.seed_plane < len(labels):
            raise InputError(
                f"There is no plane {self.seed_plane}: the planes are 0 to {len(labels) - 1}.",
                code="plane-outside-stack",
            )
        indices = range(len(labels)) if self.seed_plane is None else (self.seed_plane,)
        planes = {index: labels[index] for index in indices if labels[index].any()}
        if not planes:
            raise InputError(f"{source.name} holds no object to follow.", code="no-labelled-object")
        return planes


def _seed_file(path: Path, seeds: Path | None) -> Path:
    """Return the labels of a stack: the file ``seeds``, or the file named like the stack in the folder ``seeds``."""
    if seeds is None or not seeds.is_dir():
        if seeds is None or not seeds.is_file():
            raise InputError(f"There is no file or folder {seeds}.", code="file-not-found")
        return seeds
    found = [other for other in list_images(seeds) if stem(other) == stem(path)]
    if len(found) != 1:
        raise InputError(
            f"{seeds} holds {'several files' if found else 'no file'} named {stem(path)}.",
            code="several-seed-files" if found else "no-seed-file",
        )
    return found[0]
