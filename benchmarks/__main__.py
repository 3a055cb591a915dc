"""Run all benchmarks in the order of ``benchmarks/README.md``.

    python -m benchmarks [FOLDER...] [--only NAME...] [--output DIR]

Benchmarks on labelled sets (zero_shot, learning, everything, effort, propagation) need folders, see
`benchmarks.sets`, and are skipped without. ``viewer``, ``finetuning`` and ``memory`` open a window: without a screen,
run all under xvfb-run. Each runs in its own process with default options; ``python -m benchmarks.NAME`` takes other
ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SPEED = ("encoder", "lora_step", "prompt", "nano", "find_time", "viewer", "finetuning", "stacks", "memory")
QUALITY = ("zero_shot", "learning", "everything", "effort", "propagation")
# These also write their figures to a file.
WRITING = ("learning", "everything", "effort", "propagation")


def command(name: str, folders: list[Path], output: Path) -> list[str]:
    """Return the command line of one benchmark."""
    line = [sys.executable, "-m", f"benchmarks.{name}"]
    if name in QUALITY:
        line += [str(folder) for folder in folders]
    if name in WRITING:
        line += ["--output", str(output / f"{name}.json")]
    return line


def main() -> None:
    """Print the tables of all benchmarks; exits with an error at the end if one of them failed."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="*", help="sets: folders with images/ and labels/")
    parser.add_argument("--only", nargs="+", choices=SPEED + QUALITY, default=SPEED + QUALITY)
    parser.add_argument("--output", type=Path, default=Path("benchmark-output"), help="folder of the JSON files")
    options = parser.parse_args()
    missing = [str(folder) for folder in options.folders if not (folder / "images").is_dir()]
    if missing:
        parser.error(f"no folder images/ in {', '.join(missing)}; a set has images/ and labels/")
    failed = []
    for name in (name for name in SPEED + QUALITY if name in options.only):
        print(f"## {name}\n", flush=True)
        if name in QUALITY and not options.folders:
            print("Left out: no labelled set was given.\n", flush=True)
        elif subprocess.run(command(name, options.folders, options.output), check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        sys.exit(f"These benchmarks failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
