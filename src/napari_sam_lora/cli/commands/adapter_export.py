"""Actions of the adapter command that hand an adapter on: its card, and ONNX files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam_lora.cli.console import Console, check_output
from napari_sam_lora.cli.loading import base_name, open_model
from napari_sam_lora.cli.settings import ModelSettings
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import read_image, read_labels

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter

_LARGEST_PREVIEW = 40  # objects that are prompted for it


def add_actions(actions: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Add the actions; returns their parsers."""
    card = actions.add_parser("card", help="write a Markdown card beside an adapter file")
    card.add_argument("file", type=Path)
    card.add_argument("--output", type=Path, metavar="PATH", help="by default the adapter's path, ending in .md")
    card.add_argument("--image", type=Path, metavar="PATH", help="an image for the picture of before and after")
    card.add_argument("--labels", type=Path, metavar="PATH", help="its labels, which are clicked on")
    card.add_argument("--model", metavar="TEXT", help="the base model, if it has no registered name: its path")
    card.set_defaults(run=run_card)

    onnx = actions.add_parser("onnx", help="write base model and adapter as ONNX files")
    onnx.add_argument("file", type=Path)
    onnx.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the files go")
    onnx.add_argument(
        "--parts",
        nargs="+",
        choices=("encoder", "decoder"),
        default=("encoder", "decoder"),
        help="what is written (default: both; sam_nano's decoder cannot be)",
    )
    onnx.add_argument("--model", metavar="TEXT", help="the base model, if it has no registered name: its path")
    onnx.set_defaults(run=run_onnx)
    return card, onnx


def run_card(options: argparse.Namespace, console: Console) -> None:
    """Write the card, and the picture if there is an image."""
    if (options.image is None) != (options.labels is None):
        raise InputError("A picture needs both --image and --labels.")
    from napari_sam_lora.io.adapter_card import write_card  # noqa: PLC0415  torch is imported when it is needed
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    adapter = Adapter.load(options.file)
    target = options.output or options.file.with_suffix(".md")
    picture = target.with_suffix(".png")
    check_output([target, picture] if options.image else [target], options.overwrite)
    if options.image:
        model = open_model(ModelSettings(base_name(adapter, options.model), "cpu"), None, console)
        _draw(picture, model, adapter, options.image, options.labels)
        console.say(str(picture))
    preview = picture.name if options.image else ""
    write_card(target, adapter, options.file.stem, preview=preview, overwrite=options.overwrite)
    console.say(str(target))


def run_onnx(options: argparse.Namespace, console: Console) -> None:
    """Write ONNX files."""
    from napari_sam_lora.io.onnx_export import export_onnx  # noqa: PLC0415
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    adapter = Adapter.load(options.file)
    model = open_model(ModelSettings(base_name(adapter, options.model), "cpu"), None, console)
    written = export_onnx(
        options.output,
        model.loaded,
        adapter,
        name=options.file.stem,
        parts=options.parts,
        overwrite=options.overwrite,
    )
    for one in written:
        checked = (
            "not checked, onnxruntime is not installed"
            if one.difference is None
            else f"as torch to {one.difference:.0e}"
        )
        console.say(f"{one.path}: {one.part}, {checked}")


def _draw(path: Path, model: Model, adapter: Adapter, image: Path, labels: Path) -> None:
    """Base and adapted model after a click on each object of the first labelled plane, beside the labels."""
    import numpy as np  # noqa: PLC0415

    from napari_sam_lora.images import to_rgb8  # noqa: PLC0415
    from napari_sam_lora.labels import add_masks, click_at_centre, iter_masks  # noqa: PLC0415
    from napari_sam_lora.prompts import Prompts  # noqa: PLC0415
    from napari_sam_lora.report import Panel, draw_panels  # noqa: PLC0415

    wanted = read_labels(labels)
    planes = zip(read_image(image).planes(), wanted.reshape(-1, *wanted.shape[-2:]), strict=False)
    pixels, truth = next(((one, two) for one, two in planes if two.any()), (None, None))
    if pixels is None or truth is None or pixels.shape[:2] != truth.shape:
        raise InputError(f"{labels.name} holds no labels of {image.name}.")
    clicks = [click_at_centre(mask) for _, mask in iter_masks(truth)][:_LARGEST_PREVIEW]
    prompts = Prompts(points=[[click] for click in clicks])
    shown = to_rgb8(pixels, adapter.info.preprocessing)
    panels = [Panel("labels", shown, truth)]
    for title, chosen in (("base model, one click each", None), ("adapted", adapter)):
        with model.adapted(chosen):
            result = model.segment(model.encode(pixels), prompts)
        panels.append(Panel(title, shown, add_masks(np.zeros(truth.shape, np.int64), result.masks, result.scores)))
    draw_panels(path, [panels])
