"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_sam_lora.errors import SamLoraError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, which is 1 after an error that the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        _demo(options)
    except SamLoraError as error:
        print(f"napari-sam-lora: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"napari-sam-lora: cannot write: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nnapari-sam-lora: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="napari-sam-lora", description="Adapt SAM to your images with LoRA.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run the whole loop on bundled images of nuclei")
    demo.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the results")
    demo.add_argument("--steps", type=int, default=300, help="optimisation steps (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the run (default: %(default)s)")
    return parser


def _demo(options: argparse.Namespace) -> None:
    from napari_sam_lora.demo import run_demo  # noqa: PLC0415  torch is imported when it is needed

    run_demo(options.output, options.steps, options.seed)


if __name__ == "__main__":
    sys.exit(main())
