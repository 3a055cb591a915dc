"""The part of ``segment`` that follows objects through stacks."""

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

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.stacks.propagation.config import PropagationConfig
    from napari_sam_lora.stacks.tiles import TilingConfig

TITLE = "propagation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from napari_sam_lora.stacks.propagation.config import PropagationConfig  # noqa: PLC0415  torch is imported when it is needed

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
        "--seed-plane", type=int, metavar="N", help="which plane --seeds are of, if they are a single one"
    )
    add_options(parser, TITLE, PropagationConfig, skip={"smallest"})


def checked(options: argparse.Namespace) -> PropagationConfig | None:
    """The settings, or None without --propagate.

    Raises
    ------
    InputError
        If options do not fit together.
    """
    from napari_sam_lora.stacks.propagation.config import PropagationConfig  # noqa: PLC0415

    given = options_in(options, TITLE)
    if not options.propagate:
        lone = [*given, *(name for name in ("seeds", "seed_plane") if getattr(options, name) is not None)]
        if lone:
            raise InputError(f"--{lone[0].replace('_', '-')} belongs to --propagate.")
        return None
    if (options.prompts is None) == (options.seeds is None):
        raise InputError("--propagate needs to know the objects: give --prompts or --seeds, one of them.")
    if options.seed_plane is not None and options.seeds is None:
        raise InputError("--seed-plane belongs to --seeds.")
    config = PropagationConfig(**given)
    return replace(config, smallest=options.smallest) if options.smallest else config


@dataclass(frozen=True, eq=False)
class Propagator:
    """Labels of one stack after the other.

    Attributes
    ----------
    model : Model
    config : PropagationConfig
    tiling : TilingConfig
    prompts : PromptFile or None
    seeds : Path or None
        File or folder, where there are no prompts.
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
        """The label image (n, y, x) of a stack; the bar advances by one."""
        from napari_sam_lora.stacks.propagation.propagate import propagate  # noqa: PLC0415

        image = read_image(path, self.axes)
        if len(image.stack_shape) != 1:
            raise InputError(f"{path.name} is {image.data.shape}, not a stack of planes along one axis.")
        found = self._seeds(path, image)
        out = np.zeros((image.plane_count, *image.plane_shape), np.int64)
        share = 0.0
        for done in propagate(self.model, image.data, found, config=self.config, tiling=self.tiling):
            done.write(out[done.index])
            if done.total:
                bar.update(done.done / done.total - share)
                share = done.done / done.total
        return out

    def _seeds(self, path: Path, image: ImageFile) -> Mapping[int, Any]:
        if self.prompts is None:
            return self._drawn(path, image)
        from napari_sam_lora.stacks.tile_masks import ObjectPrompts  # noqa: PLC0415

        prompts = self.prompts.for_image(path)
        for asked in prompts.values():
            asked.check_inside(image.plane_shape)
        return {
            number: dict(zip(asked.ids, ObjectPrompts.rows(asked.prompts), strict=True))
            for number, asked in prompts.items()
        }

    def _drawn(self, path: Path, image: ImageFile) -> Mapping[int, NDArray[np.int64]]:
        source = _partner(path, self.seeds)
        labels = read_labels(source, self.axes if self.axes and len(self.axes) == image.data.ndim else None)
        if labels.ndim == 2:
            if self.seed_plane is None:
                raise InputError(f"{source.name} is a single plane: say which one of the stack with --seed-plane.")
            return {self.seed_plane: labels}
        if labels.shape != (*image.stack_shape, *image.plane_shape):
            raise InputError(f"{source.name} is {labels.shape}, {path.name} {image.data.shape}: they must fit.")
        if self.seed_plane is not None and not 0 <= self.seed_plane < len(labels):
            raise InputError(f"There is no plane {self.seed_plane}: the planes are 0 to {len(labels) - 1}.")
        wanted = range(len(labels)) if self.seed_plane is None else (self.seed_plane,)
        planes = {index: labels[index] for index in wanted if labels[index].any()}
        if not planes:
            raise InputError(f"{source.name} holds no object to follow.")
        return planes


def _partner(path: Path, seeds: Path | None) -> Path:
    """The labels of a stack: the file given, or the one of this name in the folder given."""
    if seeds is None or not seeds.is_dir():
        if seeds is None or not seeds.is_file():
            raise InputError(f"There is no file or folder {seeds}.")
        return seeds
    found = [other for other in list_images(seeds) if stem(other) == stem(path)]
    if len(found) != 1:
        raise InputError(f"{seeds} holds {'several files' if found else 'no file'} named {stem(path)}.")
    return found[0]
