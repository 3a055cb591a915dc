"""The card of an adapter: what a person should know before using it, as Markdown beside the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.output import check_free
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.model.registry import MODELS
from napari_sam_lora.text import pluralize

_FIGURES = {
    "box_iou": "IoU with a box",
    "click_iou": "IoU with one click",
    "corrected_iou": "IoU after six clicks",
    "box_dice": "Dice with a box",
    "clicks_to_good": "clicks to IoU 0.8",
    "count": "objects",
}
# Told elsewhere in the card, or too long for it.
_LEFT_OUT = {"held_out", "images", "objects_trained_on", "classes", "note", "imported_from", "layout"}


def write_card(path: str | Path, adapter: Adapter, name: str, *, preview: str = "", overwrite: bool = False) -> Path:
    """Write the card of an adapter, atomically.

    Parameters
    ----------
    path : path-like
        Ends in .md; usually the path of the adapter with this ending.
    adapter : Adapter
    name : str
        Its title.
    preview : str
        File name of a picture beside the card.
    overwrite : bool
        Whether a card that exists may be replaced.
    """
    target = Path(path)
    if target.suffix.lower() != ".md":
        raise InputError(f"A card ends in .md, unlike {target.name}.")
    check_free([target], overwrite)
    with atomic_path(target) as temporary:
        temporary.write_text(card(adapter, name, preview), encoding="utf-8")
    return target


def card(adapter: Adapter, name: str, preview: str = "") -> str:
    """The text of a card."""
    info = adapter.info
    parts = [
        [f"# {name}", "", _summary(adapter)],
        [f"![Before and after]({preview})"] if preview else [],
        ["## Base model", "", *_base(info)],
        ["## Data", "", *_data(info)],
        ["## Result on held-out objects", "", *_metrics(info.metrics)],
        ["## Settings", "", *_settings(info)],
        ["## Use", "", *_use(name)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _summary(adapter: Adapter) -> str:
    info, count = adapter.info, sum(value.numel() for value in adapter.tensors.values())
    blocks = f"encoder blocks {_ranges(info.lora.blocks)}" if info.lora.blocks else "no encoder block"
    return (
        f"A LoRA adapter for the Segment Anything Model {info.base_name}: rank {info.lora.rank}, {blocks}, "
        f"mask decoder {info.lora.tune_decoder}; {count:,} parameters. Made {info.created} with {info.program}."
    )


def _base(info: AdapterInfo) -> Iterator[str]:
    known = MODELS.get(info.base_name)
    yield f"- {info.base_name}" + (f": {known.description} {known.source}, {known.licence}." if known else "")
    if known is not None and known.url:
        yield f"- {known.url}"
    yield f"- weights (BLAKE2b): `{info.base_hash}`; on others it is refused"
    yield f"- input size {info.input_size} pixels; intensities: {_window(info)}"


def _window(info: AdapterInfo) -> str:
    chosen = info.preprocessing
    window = f"window {chosen.window}" if chosen.window else f"percentiles {chosen.percentiles} of each plane"
    return window + ("" if chosen.channel is None else f", channel {chosen.channel}")


def _data(info: AdapterInfo) -> Iterator[str]:
    told = info.training
    if "imported_from" in told:
        yield f"- imported from {told['imported_from']}, layout of {told.get('layout', 'another project')}"
    if "objects_trained_on" in told:
        images = told.get("images")
        where = "" if images is None else f" in {pluralize(images, 'image')}"
        yield f"- {pluralize(told['objects_trained_on'], 'object')}{where}"
    if told.get("classes"):
        yield f"- classes {', '.join(map(str, told['classes']))}"
    if told.get("held_out"):
        yield f"- held out: {len(told['held_out'])} images or parts of them"
    yield f"- note: {told['note']}" if told.get("note") else "- what the images show: (to be filled in)"


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    base, adapted = metrics.get("base"), metrics.get("adapted")
    if not isinstance(base, Mapping) or not isinstance(adapted, Mapping):
        yield "Not measured."
        return
    yield "| | base | adapted |"
    yield "|---|---|---|"
    for key, value in base.items():
        if isinstance(value, (int, float)) and key in adapted:
            yield f"| {_FIGURES.get(key, key.replace('_', ' '))} | {_number(value)} | {_number(adapted[key])} |"
    yield ""
    yield f"Verdict: {metrics.get('verdict', '?')}. {metrics.get('reason', '')}".strip()


def _settings(info: AdapterInfo) -> Iterator[str]:
    yield f"- mode: {info.mode}; targets: {', '.join(info.lora.targets)}; alpha: {info.lora.alpha:g}"
    for key, value in info.training.items():
        if key not in _LEFT_OUT and value is not None and not isinstance(value, (dict, list, tuple)):
            yield f"- {key.replace('_', ' ')}: {_number(value)}"


def _use(name: str) -> Iterator[str]:
    yield "```sh"
    yield f'napari-sam-lora segment images/ --output labels/ --adapter "{name}.safetensors"'
    yield "```"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ranges(numbers: tuple[int, ...]) -> str:
    whole = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))
