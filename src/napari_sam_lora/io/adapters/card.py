"""Write the card of an adapter: origin, data, results and settings, as Markdown beside the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.shared.existing_files import check_replaceable
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.model.registry import MODELS
from napari_sam_lora.text import pluralize

_METRIC_NAMES = {
    "box_iou": "IoU with a box",
    "click_iou": "IoU with one click",
    "corrected_iou": "IoU after six clicks",
    "box_dice": "Dice with a box",
    "clicks_to_good": "clicks to IoU 0.8",
    "count": "objects",
}
_CHECKED_ON = {
    "other images": "Held-out objects are of other images than those learned.",
    "same images": "Held-out objects are parts of the images that were learned; it is not checked on other images.",
    "one image": "All objects are of one image or stack; it is not checked on another one.",
}
# Training values that another section shows, or that are too long.
_LEFT_OUT = {"held_out", "images", "objects_trained_on", "classes", "note", "imported_from", "layout"}


def write_card(path: str | Path, adapter: Adapter, name: str, *, preview: str = "", overwrite: bool = False) -> Path:
    """Write the card of an adapter, atomically.

    Parameters
    ----------
    path : path-like
        Ends in .md; usually the path of the adapter with this ending.
    adapter : Adapter
    name : str
        Title of the card.
    preview : str
        File name of a picture beside the card.
    overwrite : bool
        Whether a card that exists may be replaced.

    Raises
    ------
    InputError
        If the ending is another, or the file exists.
    """
    target = Path(path)
    if target.suffix.lower() != ".md":
        raise InputError(f"The name of a card must end in .md, not {target.name}.", code="wrong-file-ending")
    check_replaceable([target], overwrite)
    with atomic_path(target) as temporary:
        temporary.write_text(card(adapter, name, preview), encoding="utf-8")
    return target


def card(adapter: Adapter, name: str, preview: str = "") -> str:
    """Return the text of a card; see `write_card`."""
    info = adapter.info
    sections = [
        [f"# {name}", "", _summary(adapter)],
        [f"![Before and after]({preview})"] if preview else [],
        ["## Base model", "", *_base(info)],
        ["## Data", "", *_data(adapter)],
        ["## Result on held-out objects", "", *_metrics(info.metrics)],
        ["## Settings", "", *_settings(info)],
        ["## Use", "", *_use(name)],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _summary(adapter: Adapter) -> str:
    info, count = adapter.info, sum(value.numel() for value in adapter.tensors.values())
    blocks = f"encoder blocks {_ranges(info.lora.blocks)}" if info.lora.blocks else "no encoder block"
    return (
        f"A LoRA adapter for the Segment Anything Model {info.base_name}: rank {info.lora.rank}, {blocks}, "
        f"mask decoder {info.lora.tune_decoder}; {count:,} parameters. Made {info.created} with {info.program}."
    )


def _base(info: AdapterInfo) -> Iterator[str]:
    model = MODELS.get(info.base_name)
    yield f"- {info.base_name}" + (f": {model.description} {model.source}, {model.licence}." if model else "")
    if model is not None and model.url:
        yield f"- {model.url}"
    yield f"- weights (BLAKE2b): `{info.base_hash}`; on others it is refused"
    yield f"- input size {info.input_size} pixels; intensities: {_intensities(info)}"


def _intensities(info: AdapterInfo) -> str:
    settings = info.preprocessing
    scaling = f"window {settings.window}" if settings.window else f"percentiles {settings.percentiles} of each plane"
    return scaling + ("" if settings.channel is None else f", channel {settings.channel}")


def _data(adapter: Adapter) -> Iterator[str]:
    training = adapter.info.training
    if "imported_from" in training:
        yield f"- imported from {training['imported_from']}, layout of {training.get('layout', 'another project')}"
    if "objects_trained_on" in training:
        images = training.get("images")
        where = "" if images is None else f" in {pluralize(images, 'image')}"
        yield f"- {pluralize(training['objects_trained_on'], 'object')}{where}"
    counts = adapter.info.metrics.get("objects")
    if isinstance(counts, Mapping):
        named = [f"{number} {name.replace('_', ' ')}" for name, number in counts.items() if number]
        yield f"- objects: {', '.join(named)}"
    if training.get("classes"):
        names = {} if adapter.dense is None else adapter.dense.classes
        named = [f"{number} {names.get(number, '')}".strip() for number in training["classes"]]
        yield f"- classes {', '.join(named)}"
    if training.get("held_out"):
        yield f"- held out: {len(training['held_out'])} images or parts of them"
    yield f"- note: {training['note']}" if training.get("note") else "- what the images show: (to be filled in)"


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    base, adapted = metrics.get("base"), metrics.get("adapted")
    if not isinstance(base, Mapping) or not isinstance(adapted, Mapping):
        yield "Not measured."
        return
    yield "| | base | adapted |"
    yield "|---|---|---|"
    for key, value in base.items():
        if isinstance(value, (int, float)) and key in adapted:
            yield f"| {_METRIC_NAMES.get(key, key.replace('_', ' '))} | {_number(value)} | {_number(adapted[key])} |"
    yield ""
    yield f"Verdict: {metrics.get('verdict', '?')}. {metrics.get('reason', '')}".strip()
    if metrics.get("checked_on") in _CHECKED_ON:
        yield ""
        yield _CHECKED_ON[metrics["checked_on"]]


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
    consecutive = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if consecutive else ", ".join(map(str, numbers))
