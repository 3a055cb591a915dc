"""List named models, download them, or describe one or a checkpoint file."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from napari_sam_lora.cli.console import Console, table, to_json
from napari_sam_lora.cli.loading import fetch
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.download import cache_folder, is_available
from napari_sam_lora.model.registry import MODELS, ModelInfo

NAME = "models"
HELP = "list, fetch and describe models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.set_defaults(run=run_list, json=False)
    actions = parser.add_subparsers(metavar="ACTION")
    listed = actions.add_parser("list", help="all named models (the default)")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(run=run_list)
    fetched = actions.add_parser("fetch", help="download models to the cache folder and verify them")
    fetched.add_argument("names", nargs="+", metavar="NAME")
    fetched.set_defaults(run=run_fetch)
    shown = actions.add_parser("info", help="describe a named model or a checkpoint file")
    shown.add_argument("name", metavar="NAME|PATH")
    shown.add_argument("--json", action="store_true", help="as JSON")
    shown.set_defaults(run=run_info)


def run_list(options: argparse.Namespace, console: Console) -> None:
    """Print the named models."""
    if options.json:
        print(to_json([_describe_named(info) for info in MODELS.values()]))
        return
    rows = [
        (
            info.name,
            info.family,
            str(info.megabytes),
            "yes" if is_available(info) else "no",
            info.licence,
            info.description,
        )
        for info in MODELS.values()
    ]
    print(table(("name", "family", "MB", "here", "licence", "what it is for"), rows))
    console.say(f"Models are kept in {cache_folder()}.")


def run_fetch(options: argparse.Namespace, console: Console) -> None:
    """Download models."""
    unknown = [name for name in options.names if name not in MODELS]
    if unknown:
        raise InputError(
            f"There is no model named {', '.join(unknown)}; named models: {', '.join(MODELS)}.", code="model-not-found"
        )
    for name in options.names:
        for info in (MODELS[name], MODELS[name].decoder):
            if info is not None:
                console.say(f"{info.name}: {fetch(info, console)}")


def run_info(options: argparse.Namespace, console: Console) -> None:
    """Describe a model."""
    info = MODELS.get(options.name)
    values = _describe_named(info) if info else _describe_file(Path(options.name))
    if options.json:
        print(to_json(values))
        return
    width = max(map(len, values)) + 2
    print("\n".join(f"{name + ':':{width}}{value}" for name, value in values.items() if value is not None))


def _describe_named(info: ModelInfo) -> dict[str, Any]:
    values = dataclasses.asdict(info)
    path = None if info.asset else str(cache_folder() / info.file_name)
    return {name: value for name, value in values.items() if name != "asset"} | {
        "decoder": None if info.decoder is None else info.decoder.url,
        "here": is_available(info),
        "path": path,
    }


def _describe_file(path: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415  it is slow to import

    from napari_sam_lora.model.checkpoints import load  # noqa: PLC0415

    loaded = load(path, torch.device("cpu"))
    return {
        "name": loaded.name,
        "family": loaded.family,
        "megabytes": round(path.expanduser().stat().st_size / 2**20),
        "parameters": sum(parameter.numel() for parameter in loaded.sam.parameters()),
        "blocks": len(loaded.sam.image_encoder.blocks),
        "input_size": int(loaded.sam.image_encoder.img_size),
        "weights_hash": loaded.weights_hash,
        "path": str(path.expanduser().resolve()),
    }
