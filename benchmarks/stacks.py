"""Long stacks: time to the first mask, and memory of following an object.

    python -m benchmarks.stacks [--planes 1000] [--runs 5]

Stacks are dask arrays whose planes are computed when they are read. The time runs from adding an image to a session,
with the bundled model loaded, to the mask of a click in its middle plane; single planes and long stacks alternate. Peak
memory is measured in two processes: one follows an object through half of the planes, the other through all planes.
Both fill the cache of embeddings (512 MB).
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from benchmarks.workers import peak_megabytes, run_worker, seconds
from napari_sam_lora.api import load_model
from napari_sam_lora.session import ArraySource, PlaneKey, Session
from napari_sam_lora.stacks.propagation.propagate import propagate

SIDE, RADIUS, CENTRE = 512, 60, (256, 256)


def disc() -> NDArray[np.bool_]:
    """Return the mask of the object, the same in every plane."""
    ys, xs = np.mgrid[:SIDE, :SIDE]
    return np.asarray((ys - CENTRE[0]) ** 2 + (xs - CENTRE[1]) ** 2 < RADIUS**2)


def lazy(planes: int, seed: int = 0) -> Any:
    """Return a lazy stack (z, y, x) with a noisy disc in every plane."""

    def make(block: NDArray[np.uint8], block_info: Any = None) -> NDArray[np.uint8]:
        number = block_info[0]["chunk-location"][0] if block_info else 0
        noise = np.random.default_rng((seed, number)).integers(0, 60, block.shape[1:], np.uint8)
        return np.asarray(noise + 120 * disc().astype(np.uint8))[None]

    return da.zeros((planes, SIDE, SIDE), np.uint8, chunks=(1, SIDE, SIDE)).map_blocks(make, dtype=np.uint8)


def first_mask(session: Session, planes: int, number: int) -> float:
    """Return the seconds from adding a stack to the mask of a click."""
    name = f"stack {planes} {number}"

    def click() -> None:
        session.add_image(name, ArraySource(lazy(planes, number)))
        plane = PlaneKey.of(name, 3, (planes // 2,))
        session.prompts.add(plane, "point", CENTRE)
        masks = session.prompts.preview(plane).result().masks
        if not any(mask.region.area for mask in masks):
            raise RuntimeError("The click gave no mask.")

    return seconds(click)


def follow(planes: int) -> dict[str, float]:
    """Follow the object through a stack; returns the planes done and the peak memory of this process."""
    model = load_model("sam_nano", device="cpu")
    done = sum(1 for _ in propagate(model, lazy(planes), disc().astype(np.int32), planes // 2))
    return {"planes": done, "peak": peak_megabytes()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=1000, help="number of planes of the long stack")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--follow", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        print(json.dumps(follow(options.follow)))
        return
    session = Session(load_model("sam_nano", device="cpu"))
    times: dict[int, list[float]] = {1: [], options.planes: []}
    for number in range(options.runs + 1):
        for planes, column in times.items():
            column.append(first_mask(session, planes, number))
    session.close()
    single, long = (statistics.median(column[1:]) for column in times.values())  # the first ones allocate
    short = run_worker("benchmarks.stacks", "--follow", str(max(2, options.planes // 2)))
    whole = run_worker("benchmarks.stacks", "--follow", str(options.planes))
    print("| | a single plane or half | all planes | ratio |\n|---|---|---|---|")
    print(
        f"| time to the first mask, 1 / {options.planes} planes | {single:.2f} s | {long:.2f} s | {long / single:.2f} |"
    )
    print(
        f"| peak memory of following an object, {short['planes']} / {whole['planes']} planes | {short['peak']:.0f} MB "
        f"| {whole['peak']:.0f} MB | {whole['peak'] / short['peak']:.2f} |"
    )


if __name__ == "__main__":
    main()
