"""Show what an adapter file says, import one of another project, merge one into a SAM checkpoint, or hand it on.

It is handed on with a card, or as ONNX files.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_sam_lora.cli.commands import adapter_export
from napari_sam_lora.cli.console import Console, check_output, to_json
from napari_sam_lora.cli.loading import base_name, open_model
from napari_sam_lora.cli.settings import ModelSettings
from napari_sam_lora.errors import InputError

NAME = "adapter"
HELP = "describe, import and merge adapter files"
_CHECKPOINTS = (".pth", ".pt", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    shown = actions.add_parser("info", help="what an adapter file says about itself")
    shown.add_argument("file", type=Path)
    shown.add_argument("--json", action="store_true", help="as JSON, complete")
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
    exported = adapter_export.add_actions(actions)
    for action in (imported, merged, *exported):
        action.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")


def run_info(options: argparse.Namespace, console: Console) -> None:
    """Print what an adapter file says."""
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415  torch is imported when it is needed

    adapter = Adapter.load(options.file)
    described = dataclasses.asdict(adapter.info) | {
        "parameters": sum(value.numel() for value in adapter.tensors.values()),
        "bytes": options.file.stat().st_size,
    }
    print(to_json(described) if options.json else "\n".join(_lines(described)))


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
    _check_other(options)
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
    _check_other(options)
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415
    from napari_sam_lora.lora.merge import save_merged  # noqa: PLC0415

    adapter = Adapter.load(options.file)
    model = open_model(ModelSettings(base_name(adapter, options.model), "cpu"), None, console)
    own_size = model.predictor.input_size
    if adapter.info.input_size != own_size:  # other programs load a checkpoint at the family's own size only
        console.warn(
            f"the adapter was trained at an input size of {adapter.info.input_size}, the merged checkpoint runs at "
            f"{own_size}, where it may be less good."
        )
        adapter = dataclasses.replace(adapter, info=dataclasses.replace(adapter.info, input_size=own_size))
    tree = adapter.apply(model.loaded.sam, model.name, model.loaded.weights_hash)
    save_merged(options.output, tree)
    console.say(f"{options.output}: {model.name} with {options.file.name}.")


def _check_ending(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix not in endings:
        raise InputError(f"The output ends in {' or '.join(endings)}, unlike {path.name}.")


def _check_other(options: argparse.Namespace) -> None:
    if options.output.exists() and options.file.exists() and options.output.samefile(options.file):
        raise InputError(f"{options.output} is the input itself; choose another --output.")
