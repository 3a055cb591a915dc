"""Run the whole loop on bundled images of nuclei: segment, fine-tune, check, segment again, export."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_sam_lora.cli.console import Console
from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.training import TrainConfig

NAME = "demo"
HELP = "the whole loop on bundled images of nuclei"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="FOLDER",
        help="for the results (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="optimisation steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the run (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Run the demo."""
    if any(path.exists() and not path.is_dir() for path in (options.output, *options.output.parents)):
        raise InputError(f"{options.output} cannot be a folder: a file is in the way.", code="output-below-file")
    from napari_sam_lora.demo import run_demo  # noqa: PLC0415  torch is imported when it is needed

    TrainConfig(steps=options.steps, seed=options.seed)
    run_demo(options.output, options.steps, options.seed, say=console.say, bars=not console.quiet)
