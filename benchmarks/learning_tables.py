"""Rows of the learning benchmark, and their tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from napari_sam_lora.training.evaluation.acceptance import Verdict


@dataclass(frozen=True)
class LearningRow:
    """Result of one method, trained on some images of a set, on the test planes of the set.

    Attributes
    ----------
    set, method : str
        The method is "base", a mode of fine-tuning, "u-net" or "forest".
    images : int
        Number of labelled images for training.
    objects : int
        Number of test objects.
    box_iou, click_iou : float
        Means over test objects.
    clicks : float, optional
        Mean number of clicks to IoU 0.8; only for prompted models.
    seconds : float
        Training time; for fine-tuning with its check, so that a U-Net gets as much time.
    verdict : str, optional
        Verdict of the check; only for fine-tuning runs.
    """

    set: str
    method: str
    images: int
    objects: int
    box_iou: float
    click_iou: float
    clicks: float | None = None
    seconds: float = 0.0
    verdict: Verdict | None = None


def set_table(rows: Sequence[LearningRow]) -> str:
    """Format all rows of one set; the first must be that of the base model."""
    base = rows[0]
    lines = [
        f"### {base.set}: {base.objects} test objects",
        "",
        "| images | method | box IoU | first-click IoU | clicks to 0.8 | box error | first-click error | check | s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clicks = "" if row.clicks is None else f"{row.clicks:.2f}"
        changes = ("", "") if row is base else (f"{change:+.0%}" for change in error_changes(row, base))
        cells = (row.images, row.method, f"{row.box_iou:.3f}", f"{row.click_iou:.3f}", clicks, *changes)
        lines.append(f"| {' | '.join(map(str, cells))} | {_check(row, base)} | {row.seconds:.0f} |")
    return "\n".join(lines)


def summary_table(rows: Sequence[LearningRow]) -> str:
    """Format one line per method and count: mean relative changes of the error (1 - IoU) from the base model."""
    bases = {row.set: row for row in rows if row.method == "base"}
    lines = [
        "| images | method | sets | box error | better on | first-click error | better on | clicks to 0.8 | fewer on |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for images, method in _in_order((row.images, row.method) for row in rows if row.method != "base"):
        chosen = [row for row in rows if (row.images, row.method) == (images, method)]
        boxes, clicks = zip(*(error_changes(row, bases[row.set]) for row in chosen), strict=True)
        cells = [images, method, len(chosen), f"{_mean(boxes):+.0%}", _below(boxes), f"{_mean(clicks):+.0%}"]
        cells += [_below(clicks), *_click_counts(chosen, bases)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    harmful = [row for row in rows if is_harmful(row, bases[row.set])]
    names = ", ".join(f"{row.set} ({row.method}, {row.images} images)" for row in harmful) or "none"
    judged = sum(row.verdict == "better" for row in rows)
    return "\n".join(lines) + f'\n\nJudged "better": {judged} runs; of these worse on the test planes: {names}.'


def error_changes(row: LearningRow, base: LearningRow) -> tuple[float, float]:
    """Return relative changes of the errors (1 - IoU) for boxes and for first clicks; negative is better."""
    return (1 - row.box_iou) / (1 - base.box_iou) - 1, (1 - row.click_iou) / (1 - base.click_iou) - 1


def is_harmful(row: LearningRow, base: LearningRow) -> bool:
    """Return whether the verdict is "better", but boxes and first clicks together are worse on the test planes."""
    return row.verdict == "better" and row.box_iou + row.click_iou < base.box_iou + base.click_iou


def _check(row: LearningRow, base: LearningRow) -> str:
    if row.verdict is None:
        return ""
    return f"{row.verdict}, but worse" if is_harmful(row, base) else row.verdict


def _click_counts(rows: Sequence[LearningRow], bases: dict[str, LearningRow]) -> tuple[str, str]:
    pairs = [(row.clicks, bases[row.set].clicks) for row in rows]
    changes = [now - before for now, before in pairs if now is not None and before is not None]
    return (f"{_mean(changes):+.2f}", _below(changes)) if changes else ("", "")


def _below(changes: Sequence[float]) -> str:
    return f"{sum(change < 0 for change in changes)} of {len(changes)}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _in_order(keys: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the keys without repetition, sorted by the number of images, then in their original order."""
    return sorted(dict.fromkeys(keys), key=lambda key: key[0])
