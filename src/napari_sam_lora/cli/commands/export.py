"""Convert labels: TIFF for Fiji, OME-TIFF, NIfTI, PNG planes, COCO, or a table of the objects.

The ending of --output selects the format. With --image the labels get the pixel size and the unit of that image, and
in NIfTI also its affine and its voxel order.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_sam_lora.cli.console import Console
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.coco.writing import OUTLINES
from napari_sam_lora.io.images import read_image, read_labels
from napari_sam_lora.io.volumes import attributes_of
from napari_sam_lora.io.writers import FORMATS, save_labels

NAME = "export"
HELP = "convert labels to TIFF, NIfTI, PNG, COCO or a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("labels", type=Path, metavar="LABELS", help="the label image")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help=f"ends in {', '.join(FORMATS)}")
    parser.add_argument("--image", type=Path, metavar="PATH", help="the image (or DICOM folder) that they belong to")
    parser.add_argument("--axes", metavar="TEXT", help="axes of the labels, if their file does not name them: ZYX, TYX")
    parser.add_argument(
        "--outline",
        choices=OUTLINES,
        default="auto",
        help="for COCO: polygons, run lengths (rle), or polygons where they are exact (auto, the default)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Convert a label file."""
    labels = read_labels(options.labels, options.axes)
    source = options.labels if options.image is None else options.image
    if options.image is not None:
        image = read_image(options.image)
        if (*image.stack_shape, *image.plane_shape) != labels.shape:
            raise InputError(
                f"The labels are {labels.shape}, the image is {(*image.stack_shape, *image.plane_shape)}: "
                f"{options.labels.name} does not belong to {options.image.name}.",
                code="labels-do-not-fit",
            )
    name = "" if options.image is None else options.image.name
    for path in save_labels(
        options.output,
        labels,
        attributes_of(source),
        image=name,
        outline=options.outline,
        overwrite=options.overwrite,
    ):
        console.say(str(path))
