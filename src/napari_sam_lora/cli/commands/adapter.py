"""Describe an adapter file, import one of another project, or export one.

An adapter is exported as a plain SAM checkpoint (merge), as ONNX files, or with a Markdown card for sharing.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam_lora.cli.console import Console, check_output, to_json
from napari_sam_lora.cli.loading import base_name, open_model
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import read_image, read_labels
from napari_sam_lora.parameters.run import ModelSettings

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter

NAME = "adapter"
HELP = "describe, import and merge adapter files"
_CHECKPOINTS = (".pth", ".pt", ".safetensors")
_MOST_CLICKS = 40  # objects that are clicked for the picture of a card


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    shown = actions.add_parser("info", help="describe an adapter file")
    shown.add_argument("file", type=Path)
    shown.add_argument("--json", action="store_true", help="print all of it as JSON")
    shown.set_defaults(run=run_info)

    imported = actions.add_parser("import", help="convert an adapter of another project (.safetensors, .pth)")
    imported.add_argument("file", type=Path)
    imported.add_argument("--model", required=True, metavar="TEXT", help="the base model that it was trained on")
    imported.add_argument("--output", type=Path, required=True, metavar="PATH", help="the new .safetensors file")
    imported.add_argument(
        "--blocks", type=int, nargs="+", metavar="N", help="the adapted encoder blocks, from 0, if not all of them"
    )
    imported.add_argument("--alpha", type=float, metavar="X", help="for LoRA-ViT, whose files do not hold it")
    imported.set_defaults(run=run_import)

    merged = actions.add_parser("merge", help="write base model and adapter as one plain SAM checkpoint")
    merged.add_argument("file", type=Path)
    merged.add_argument("--output", type=Path, required=True, metavar="PATH", help="ends in .pth, .pt or .safetensors")
    merged.add_argument("--model", metavar="TEXT", help="the base model, if it has no registered name: its path")
    merged.set_defaults(run=run_merge)

    card = actions.add_parser("card", help="write a Markdown card beside an adapter file")
    card.add_argument("file", type=Path)
    card.add_argument("--output", type=Path, metavar="PATH", help="by default the adapter's path, ending in .md")
    card.add_argument("--image", type=Path, metavar="PATH", help="an image for the picture of before and after")
    card.add_argument("--labels", type=Path, metavar="PATH", help="its labels; each object gets a click")
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

    for action in (imported, merged, card, onnx):
        action.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")


def run_info(options: argparse.Namespace, console: Console) -> None:
    """Describe an adapter file."""
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415  torch is imported when it is needed

    adapter = Adapter.load(options.file)
    description = dataclasses.asdict(adapter.info) | {
        "parameters": sum(value.numel() for value in adapter.tensors.values()),
        "bytes": options.file.stat().st_size,
    }
    print(to_json(description) if options.json else "\n".join(_lines(description)))


def _lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if value is None or name == "held_out":
            continue
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            shown = f"{value:.4g}" if isinstance(value, float) else shown
            yield f"{indent}{name}: {shown}"


def run_import(options: argparse.Namespace, console: Console) -> None:
    """Convert an adapter of another project."""
    _check_ending(options.output, (".safetensors",))
    check_output([options.output], options.overwrite)
    _check_not_input(options)
    from napari_sam_lora.lora.interop import import_adapter  # noqa: PLC0415

    model = open_model(ModelSettings(options.model, "cpu"), None, console)
    adapter = import_adapter(options.file, model.loaded, options.blocks, options.alpha)
    adapter.save(options.output)
    lora = adapter.info.lora
    console.say(f"{options.output}: rank {lora.rank} in {len(lora.blocks)} encoder blocks of {model.name}.")


def run_merge(options: argparse.Namespace, console: Console) -> None:
    """Write base model and adapter as one checkpoint."""
    _check_ending(options.output, _CHECKPOINTS)
    check_output([options.output], options.overwrite)
    _check_not_input(options)
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415
    from napari_sam_lora.lora.merge import save_merged  # noqa: PLC0415

    adapter = Adapter.load(options.file)
    model = open_model(ModelSettings(base_name(adapter, options.model), "cpu"), None, console)
    own_size = model.predictor.input_size
    if adapter.info.input_size != own_size:  # other programs load a checkpoint only at the size of its family
        console.warn(
            f"the adapter was trained at an input size of {adapter.info.input_size}, but the merged checkpoint runs at "
            f"{own_size}, where its masks may be worse."
        )
        adapter = dataclasses.replace(adapter, info=dataclasses.replace(adapter.info, input_size=own_size))
    tree = adapter.apply(model.loaded.sam, model.name, model.loaded.weights_hash)
    save_merged(options.output, tree)
    console.say(f"{options.output}: {model.name} with {options.file.name}.")


def run_card(options: argparse.Namespace, console: Console) -> None:
    """Write a Markdown card, with a picture if there is an image."""
    if (options.image is None) != (options.labels is None):
        raise InputError("A picture needs both --image and --labels.", code="image-without-labels")
    from napari_sam_lora.io.adapters.card import write_card  # noqa: PLC0415  torch is imported when it is needed
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
    """Write base model and adapter as ONNX files."""
    from napari_sam_lora.io.adapters.onnx_export import export_onnx  # noqa: PLC0415
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    adapter = Adapter.load(options.file)
    model = open_model(ModelSettings(base_name(adapter, options.model), "cpu"), None, console)
    written = export_onnx(
        options.output,
        model.loaded,
        adapter,
        name=options.file.stem,
        components=options.parts,
        overwrite=options.overwrite,
    )
    for one in written:
        check = (
            "not checked, since onnxruntime is not installed"
            if one.difference is None
            else f"differs from torch by at most {one.difference:.0e}"
        )
        console.say(f"{one.path}: {one.component}, {check}")


def _check_ending(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix not in endings:
        raise InputError(
            f"The output file must end in {' or '.join(endings)}, unlike {path.name}.", code="wrong-file-ending"
        )


def _check_not_input(options: argparse.Namespace) -> None:
    if options.output.exists() and options.file.exists() and options.output.samefile(options.file):
        raise InputError(f"{options.output} is the input file itself; choose another --output.", code="output-is-input")


def _draw(path: Path, model: Model, adapter: Adapter, image: Path, labels: Path) -> None:
    """Draw labels, and masks of base and adapted model after a click on each object of the first labelled plane."""
    import numpy as np  # noqa: PLC0415

    from napari_sam_lora.images import to_rgb8  # noqa: PLC0415
    from napari_sam_lora.labels import add_masks, click_at_centre, iter_masks  # noqa: PLC0415
    from napari_sam_lora.prompts import Prompts  # noqa: PLC0415
    from napari_sam_lora.report import Panel, draw_panels  # noqa: PLC0415

    stack = read_labels(labels)
    planes = zip(read_image(image).planes(), stack.reshape(-1, *stack.shape[-2:]), strict=False)
    pixels, truth = next((pair for pair in planes if pair[1].any()), (None, None))
    if pixels is None or truth is None or pixels.shape[:2] != truth.shape:
        raise InputError(f"{labels.name} holds no labels that fit a plane of {image.name}.", code="labels-do-not-fit")
    clicks = [click_at_centre(mask) for _, mask in iter_masks(truth)][:_MOST_CLICKS]
    prompts = Prompts(points=[[click] for click in clicks])
    shown = to_rgb8(pixels, adapter.info.preprocessing)
    panels = [Panel("labels", shown, truth)]
    for title, active in (("base model, one click each", None), ("adapted", adapter)):
        with model.adapted(active):
            result = model.segment(model.encode(pixels), prompts)
        panels.append(Panel(title, shown, add_masks(np.zeros(truth.shape, np.int64), result.masks, result.scores)))
    draw_panels(path, [panels])
