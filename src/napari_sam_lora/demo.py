"""Demonstrate the main job on real sample images: prompt, fine-tune, check, re-segment, find everything, export."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from napari_sam_lora.api import Evaluation, Model, evaluate, iter_fine_tune, load_model
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.samples import NUCLEI_COUNT, nuclei_pair
from napari_sam_lora.io.tiff.writing import write_labels
from napari_sam_lora.labels import add_masks, click_at_centre, find_objects
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.predictor import Result
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.report import Panel, draw_panels
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects
from napari_sam_lora.training.run import FineTuneReport

TRAIN = (1, 2, 3, 4)
TEST = tuple(range(5, NUCLEI_COUNT + 1))
SHOWN = 3

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Labels = NDArray[np.integer[Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """Figures of the demo, and where its files are.

    Attributes
    ----------
    metrics : dict
        The content of ``metrics.json``.
    folder : Path
    """

    metrics: dict[str, Any]
    folder: Path


def run_demo(folder: Path, steps: int = 60, seed: int = 0, say: Say = print, bars: bool = True) -> DemoResult:
    """Run the whole loop on the bundled nuclei with the bundled model.

    Parameters
    ----------
    folder : Path
        ``labels_NN.tif``, ``adapter.safetensors``, ``metrics.json`` and ``before_after.png`` are written there.
    steps : int
        Optimisation steps.
    seed : int
    say : callable
        Called with each line for the user.
    bars : bool
        Show a progress bar.
    """
    begun = time.monotonic()
    model = load_model("sam_nano")
    train, test = ([nuclei_pair(number) for number in numbers] for numbers in (TRAIN, TEST))
    say(
        f"1. Segment {len(test)} images of nuclei with {model.name}: one click on each nucleus, then one box, then "
        "without a prompt."
    )
    before = _SegmentedImages.of(model, test)

    objects = sum(len(find_objects(labels)) for _, labels in train)
    say(f"2. Take the given labels of {len(train)} other images as corrections: all their {objects} nuclei.")
    # All nuclei are labelled, so the rest is background, and the dense head learns to find nuclei without prompts.
    adapter, report = _train(model, train, TrainConfig(steps=steps, seed=seed, complete=True), bars)
    say(f"   Trained on {report.train_count} nuclei. {report.reason}")
    if report.cross_validated:
        say("   Few nuclei could be held out, so another adapter, trained without some others, was tested on those.")

    say(f"3. Check base and adapted model on the {len(test)} images that were not trained on.")
    base, adapted = evaluate(model, test, [None, adapter])
    model.activate(adapter)
    say("4. Segment them again with the adapted model, from the same prompts and without.")
    after = _SegmentedImages.of(model, test)

    folder.mkdir(parents=True, exist_ok=True)
    for number, labels in zip(TEST, after.from_boxes, strict=True):
        write_labels(folder / f"labels_{number:02d}.tif", labels)
    adapter.save(folder / "adapter.safetensors")
    draw_before_after(folder / "before_after.png", test[:SHOWN], before, after)
    metrics = _metrics(report, base, adapted) | {
        "label_image_iou_base": round(_agreement(test, before.from_boxes), 4),
        "label_image_iou_adapted": round(_agreement(test, after.from_boxes), 4),
        **_found_metrics("base", before.count_found(test)),
        **_found_metrics("adapted", after.count_found(test)),
        "adapter_bytes": (folder / "adapter.safetensors").stat().st_size,
        "seconds": round(time.monotonic() - begun, 1),
    }
    with atomic_path(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n")
    _summarise(metrics, folder, say)
    return DemoResult(metrics, folder)


@dataclass(frozen=True, eq=False)
class _SegmentedImages:
    """Label images (y, x) of the test images by one model, from three kinds of prompts.

    Attributes
    ----------
    from_clicks, from_boxes : list of int (y, x)
        From one prompt per nucleus; the ids are 1, 2, ... in the order of the nuclei.
    without_prompts : list of int (y, x)
    """

    from_clicks: list[Labels]
    from_boxes: list[Labels]
    without_prompts: list[Labels]

    @classmethod
    def of(cls, model: Model, pairs: Sequence[Pair]) -> _SegmentedImages:
        """Segment images with the adapter that is active."""
        return cls(
            [_to_labels(_segment(model, pair, by_click=True)) for pair in pairs],
            [_to_labels(_segment(model, pair, by_click=False)) for pair in pairs],
            [model.segment_everything(image) for image, _ in pairs],
        )

    def count_found(self, pairs: Sequence[Pair]) -> Matches:
        """Count the nuclei that are found without a prompt; an IoU above 0.5 counts as found."""
        each = (match_objects(found, labels) for found, (_, labels) in zip(self.without_prompts, pairs, strict=True))
        return sum(each, start=Matches())


def _segment(model: Model, pair: Pair, by_click: bool) -> Result:
    image, labels = pair
    found = find_objects(labels)
    if by_click:
        prompts = Prompts(points=[[click_at_centre(labels == item.label)] for item in found])
    else:
        prompts = Prompts(boxes=[item.box for item in found])
    return model.segment(model.encode(image), prompts)


def _train(model: Model, pairs: Sequence[Pair], config: TrainConfig, bars: bool) -> tuple[Adapter, FineTuneReport]:
    run = iter_fine_tune(model, pairs, config)
    with tqdm(total=config.steps, desc="   fine-tuning", unit="step", disable=not bars) as bar:
        for step in run:
            bar.total = step.steps
            bar.set_postfix(loss=f"{step.loss:z.3f}", phase=step.phase, refresh=False)
            bar.update()
    return run.result()


def _to_labels(result: Result) -> Labels:
    return add_masks(np.zeros(result.masks.shape[1:], np.int64), result.masks, result.scores)


def _agreement(pairs: Sequence[Pair], written: Sequence[Labels]) -> float:
    """Return the mean IoU of each nucleus with its own region in the written label image."""
    values = []
    for (_, labels), ids in zip(pairs, written, strict=True):
        for row, item in enumerate(find_objects(labels), start=1):
            truth, found = labels == item.label, ids == row
            values.append(np.count_nonzero(truth & found) / np.count_nonzero(truth | found))
    return float(np.mean(values))


def _metrics(report: FineTuneReport, base: Evaluation, adapted: Evaluation) -> dict[str, Any]:
    figures: dict[str, float] = {}
    for name, evaluation in (("base", base), ("adapted", adapted)):
        values = asdict(evaluation.figures)
        figures |= {f"{name}_{key}": round(value, 4) for key, value in values.items() if key != "count"}
    return {
        "model": "sam_nano",
        "test_images": len(TEST),
        "test_objects": base.figures.count,
        "trained_images": len(TRAIN),
        "trained_objects": report.train_count,
        "steps": len(report.losses),
        "verdict": report.verdict,
        "reason": report.reason,
        "cross_validated": report.cross_validated,
        **figures,
    }


def _found_metrics(name: str, matches: Matches) -> dict[str, Any]:
    return {
        f"everything_found_{name}": matches.true_positives,
        f"everything_wrong_{name}": matches.false_positives,
        f"everything_ap_{name}": round(matches.average_precision, 4),
    }


def draw_before_after(path: Path, pairs: Sequence[Pair], before: _SegmentedImages, after: _SegmentedImages) -> None:
    """Draw the first images, what was segmented before and after fine-tuning, and the given labels.

    Shown are the masks from one click on each nucleus, and what was found without a prompt.
    """
    titles = ("image", "base: one click each", "adapted", "base: without a prompt", "adapted", "given labels")
    rows: list[list[Panel]] = []
    for number, (image, labels) in enumerate(pairs):
        shown = np.clip(image / np.percentile(image, 99.9), 0, 1)
        clicked = (before.from_clicks[number], after.from_clicks[number])
        found = (before.without_prompts[number], after.without_prompts[number])
        layers = (None, *clicked, *found, labels)
        rows.append([Panel("" if rows else title, shown, layer) for title, layer in zip(titles, layers, strict=True)])
    draw_panels(path, rows)


def _summarise(metrics: dict[str, Any], folder: Path, say: Say) -> None:
    say("")
    say(f"{metrics['test_objects']} nuclei in {metrics['test_images']} images that were not trained on:")
    say(f"  {'':24}{'base':>8}{'adapted':>10}")
    for name, key in (
        ("IoU with a box", "box_iou"),
        ("IoU with one click", "click_iou"),
        ("IoU after six clicks", "corrected_iou"),
        ("clicks to IoU 0.8", "clicks_to_good"),
    ):
        say(f"  {name:24}{metrics[f'base_{key}']:8.3f}{metrics[f'adapted_{key}']:10.3f}")
    say(
        f"Found without a prompt: {metrics['everything_found_base']} of {metrics['test_objects']} nuclei before, "
        f"{metrics['everything_found_adapted']} after. Wrongly found: {metrics['everything_wrong_base']} before, "
        f"{metrics['everything_wrong_adapted']} after."
    )
    say(f"Adapter: {metrics['adapter_bytes'] / 1024:.0f} KiB, verdict: {metrics['verdict']}. {metrics['seconds']} s.")
    say(f"Label images, adapter, metrics.json and before_after.png are in {folder}/.")
