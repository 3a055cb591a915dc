"""Compare the base model with adapters on labelled images that they were not trained on.

Adapters are files (--adapters), or are trained here, one for each rank (--ranks with --train-data). For models with a
dense head, the average precision (IoU 0.5) of what it finds without prompts is printed too, and for those that were
trained on classes the Dice of each class, and the share of found objects with the right one. This takes every image as
labelled completely: what is found where nothing is labelled counts as a mistake. The output folder will hold
evaluation.json, comparison.png and overlays/.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.cli.commands.train import FIGURES, load_dataset, train_adapter
from napari_sam_lora.cli.console import Console, check_output, table, to_json, write_text
from napari_sam_lora.cli.loading import base_name, open_model
from napari_sam_lora.cli.options import add_options, add_section, options_in
from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.images import to_rgb8
from napari_sam_lora.io.datasets import Dataset, Sample, name_some
from napari_sam_lora.labels import LabelMeaning, add_masks, click_at_centre, find_objects, separate_objects
from napari_sam_lora.parameters.run import DataSettings, ModelSettings, PreprocessingSettings
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.prompts import Prompts

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.evaluation.classes import ClassFigures
    from napari_sam_lora.training.evaluation.instance_matching import Matches
    from napari_sam_lora.training.evaluation.metrics import ObjectScore

NAME = "evaluate"
HELP = "compare the base model with adapters, or ranks"
BASE = "base"
_CHART_FIGURES = ("box_iou", "box_dice", "click_iou", "corrected_iou")  # those between 0 and 1


@dataclass(frozen=True, eq=False)
class Contestant:
    """The base model or an adapter, with its scores.

    Attributes
    ----------
    name : str
    adapter : Adapter or None
    scores : tuple of ObjectScore
        Scores of all objects; ``plane`` is the index of the sample.
    found : Matches, optional
        What its dense head finds without prompts; None if it has none.
    classes : ClassFigures, optional
        How well it predicts classes; None if it predicts none, or the labels have none.
    """

    name: str
    adapter: Adapter | None
    scores: tuple[ObjectScore, ...] = ()
    found: Matches | None = None
    classes: ClassFigures | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", type=Path, metavar="DATA", help="labelled images: folder, CSV table or COCO file")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where figures and pictures go")
    parser.add_argument("--adapters", nargs="+", type=Path, default=[], metavar="FILE", help="adapter files to compare")
    parser.add_argument("--ranks", nargs="+", type=int, default=[], metavar="N", help="train an adapter of each rank")
    parser.add_argument("--train-data", type=Path, metavar="DATA", help="other labelled images, for --ranks")
    parser.add_argument(
        "--overlays",
        type=int,
        default=4,
        metavar="N",
        help="number of images whose masks are drawn (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    add_section(parser, "model", ModelSettings, skip=("start",))
    add_section(parser, "preprocessing", PreprocessingSettings)
    add_section(parser, "data", DataSettings, skip=("path", "previous", "held_out"))
    add_options(parser, "training", TrainConfig, skip=("rank",))
    parser.usage = "%(prog)s DATA --output FOLDER [--adapters FILE... | --ranks N... --train-data DATA] [options]"
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Compare base model and adapters, and write figures and pictures."""
    _check_options(options)
    files = [options.output / name for name in ("evaluation.json", "comparison.png")]
    files += [options.output / f"rank_{rank}.safetensors" for rank in options.ranks]
    check_output(files, options.overwrite)
    meaning = options_in(options, "training").get("labels", "instances")
    adapters = _load_adapters(options.adapters)
    dataset = _to_instances(load_dataset(_data(options, options.data), meaning, console), meaning)
    overlays = _overlay_paths(dataset, options)
    check_output(list(overlays), options.overwrite)
    model = _open(options, [adapter for _, adapter in adapters], console)
    adapters += _train_ranks(model, dataset, options, console)
    contestants = _score(model, dataset, [(BASE, None), *adapters], console)
    _write(options.output, contestants, dataset, console)
    _draw_overlays(model, contestants, overlays, console)
    console.say(f"Figures, chart and overlays are in {options.output}/.")


def _check_options(options: argparse.Namespace) -> None:
    if options.ranks and options.train_data is None:
        raise InputError(
            "--ranks trains adapters: name labelled images for training with --train-data, other than DATA.",
            code="ranks-without-train-data",
        )
    if options.train_data is not None and not options.ranks:
        raise InputError("--train-data can only be used with --ranks.", code="train-data-without-ranks")
    training = [name for name in options_in(options, "training") if name != "labels"]
    if training and not options.ranks:
        raise InputError(
            f"--{training[0].replace('_', '-')} is a setting of training, which needs --ranks.",
            code="training-setting-without-ranks",
        )
    if min(options.ranks, default=1) < 1 or len(set(options.ranks)) < len(options.ranks):
        raise InputError(f"Ranks must be different whole numbers from 1 on, not {options.ranks}.", code="invalid-ranks")


def _data(options: argparse.Namespace, path: Path) -> DataSettings:
    values = options_in(options, "data")
    return DataSettings(path, **values) if path == options.data else DataSettings(path, axes=values.get("axes"))


def _to_instances(dataset: Dataset, meaning: LabelMeaning) -> Dataset:
    """Return the set with one id for each object, whatever its labels mean, and the classes of the objects."""
    if meaning == "instances":
        return dataset
    samples = []
    for sample in dataset.samples:
        labels, classes = separate_objects(sample.labels, meaning)
        samples.append(dataclasses.replace(sample, labels=labels, classes=classes))
    return dataclasses.replace(dataset, samples=tuple(samples))


def _load_adapters(paths: Sequence[Path]) -> list[tuple[str, Adapter | None]]:
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    names = [path.stem for path in paths]
    if BASE in names or len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise InputError("An adapter is named twice.", code="adapter-named-twice")
    return [(name, Adapter.load(path)) for name, path in zip(names, paths, strict=True)]


def _open(options: argparse.Namespace, adapters: Sequence[Adapter | None], console: Console) -> Model:
    """Load the base model of all adapters, by default with preprocessing and input size of the first adapter."""
    values, window = options_in(options, "model"), options_in(options, "preprocessing")
    first = adapters[0] if adapters else None
    if first is not None:
        values["name"] = base_name(first, values.get("name"))
        values.setdefault("input_size", first.info.input_size)
    preprocessing = first.info.preprocessing if first and not window else PreprocessingSettings(**window).resolve()
    model = open_model(ModelSettings(**values), preprocessing, console)
    for adapter in adapters:
        if adapter is not None:
            with model.adapted(adapter):  # refuses an adapter of another base model before the work begins
                pass
    return model


def _train_ranks(
    model: Model, dataset: Dataset, options: argparse.Namespace, console: Console
) -> list[tuple[str, Adapter | None]]:
    if not options.ranks:
        return []
    settings = options_in(options, "training")
    configs = [TrainConfig(rank=rank, **settings) for rank in options.ranks]
    train = load_dataset(_data(options, options.train_data), configs[0].labels, console)
    _refuse_shared(train, dataset)
    trained: list[tuple[str, Adapter | None]] = []
    for config in configs:
        name = f"rank {config.rank}"
        adapter, report = train_adapter(model, train, config, console, name=name)
        adapter.save(options.output / f"rank_{config.rank}.safetensors")
        console.say(f"{name}: {report.verdict}. {report.reason}")
        trained.append((name, adapter))
    return trained


def _refuse_shared(train: Dataset, test: Dataset) -> None:
    """Refuse images that are in both sets: results on training images say nothing about others."""
    train_names = {_content(sample): sample.name for sample in train.samples}
    shared = [sample.name for sample in test.samples if _content(sample) in train_names]
    if shared:
        raise InputError(
            f"DATA and --train-data share {len(shared)} images: {name_some(shared)}. Remove them from one.",
            code="training-images-in-test-set",
        )


def _content(sample: Sample) -> tuple[tuple[int, ...], bytes]:
    return sample.image.shape, np.ascontiguousarray(sample.image).tobytes()


def _score(
    model: Model, dataset: Dataset, adapters: Sequence[tuple[str, Adapter | None]], console: Console
) -> list[Contestant]:
    from napari_sam_lora.api import evaluate, evaluate_everything  # noqa: PLC0415
    from napari_sam_lora.training.evaluation.classes import ClassFigures, score_classes  # noqa: PLC0415

    has_classes = any(sample.classes for sample in dataset.samples)
    contestants: list[Contestant] = []
    without_objects: dict[str, None] = {}
    with console.bar("evaluating", len(adapters) * len(dataset.samples), "image") as bar:
        for name, adapter in adapters:
            scores: list[ObjectScore] = []
            matches: list[Matches] = []
            with model.adapted(adapter):
                predictor = model.predictor
            classes = ClassFigures() if has_classes and predictor.dense and predictor.dense.classes else None
            for number, sample in enumerate(dataset.samples):
                bar.set_postfix(model=name, refresh=False)
                try:
                    (found,) = evaluate(model, [sample.pair], [adapter])
                    scores += [dataclasses.replace(score, plane=number) for score in found.objects]
                except TrainingError:  # no object that is large enough
                    without_objects[sample.name] = None
                if predictor.dense is not None:
                    matches += evaluate_everything(model, [sample.pair], [adapter])
                if classes is not None:
                    classes += score_classes(predictor, *sample.pair, sample.classes)
                bar.update()
            all_matches = sum(matches[1:], start=matches[0]) if matches else None
            contestants.append(Contestant(name, adapter, tuple(scores), all_matches, classes))
    if without_objects:
        console.warn(
            f"{len(without_objects)} images hold no object that is large enough: {name_some(without_objects)}."
        )
    if not all(contestant.scores for contestant in contestants):
        raise InputError(
            "There is no labelled object that is large enough to be evaluated.", code="no-large-enough-object"
        )
    return contestants


def _write(folder: Path, contestants: Sequence[Contestant], dataset: Dataset, console: Console) -> None:
    from napari_sam_lora.report import draw_bars  # noqa: PLC0415  matplotlib is slow to import
    from napari_sam_lora.training.evaluation.metrics import summarise  # noqa: PLC0415

    figures = {contestant.name: summarise(contestant.scores) for contestant in contestants}
    precisions = {
        contestant.name: "" if contestant.found is None else f"{contestant.found.average_precision:.3f}"
        for contestant in contestants
    }
    rows = [
        (name, *(f"{getattr(found, key):.3f}" for key, _ in FIGURES), precisions[name], str(found.count))
        for name, found in figures.items()
    ]
    print(table(("model", *(title for _, title in FIGURES), "AP without prompts", "objects"), rows))
    for contestant in contestants:
        if contestant.classes is not None:
            print(_class_table(contestant.name, contestant.classes, dataset.class_names))
    values = [
        {
            "name": contestant.name,
            **dataclasses.asdict(figures[contestant.name]),
            "found": None if contestant.found is None else _matches_as_dict(contestant.found),
            "classes": None if contestant.classes is None else _classes_as_dict(contestant.classes),
            "objects": [_score_as_dict(score, dataset) for score in contestant.scores],
        }
        for contestant in contestants
    ]
    write_text(folder / "evaluation.json", to_json({"images": len(dataset.samples), "models": values}))
    titles = dict(FIGURES)
    draw_bars(
        folder / "comparison.png",
        [titles[key].replace(" with ", "\nwith ").replace(" after ", "\nafter ") for key in _CHART_FIGURES],
        {name: [getattr(found, key) for key in _CHART_FIGURES] for name, found in figures.items()},
        {contestant.name: [_standard_error(contestant, key) for key in _CHART_FIGURES] for contestant in contestants},
        "mean over objects, with standard error",
    )
    console.say("")


def _matches_as_dict(found: Matches) -> dict[str, float]:
    precision = found.average_precision
    return dataclasses.asdict(found) | ({} if np.isnan(precision) else {"average_precision": precision})


def _class_table(name: str, figures: ClassFigures, names: Mapping[int, str]) -> str:
    """Format the Dice of each class, and the share of found objects with the right class."""
    rows = [
        (f"{number} {names.get(number, '')}".strip(), f"{dice:.3f}", str(figures.labelled.get(number, 0)))
        for number, dice in figures.dice.items()
    ]
    right = f"{figures.right} of {figures.matched} found objects have the right class."
    return f"\n{table((f'class, {name}', 'Dice', 'labelled pixels'), rows)}\n{right}"


def _classes_as_dict(figures: ClassFigures) -> dict[str, Any]:
    dice = {str(number): value for number, value in figures.dice.items()}
    return {"dice": dice, "right": figures.right, "matched": figures.matched}


def _score_as_dict(score: ObjectScore, dataset: Dataset) -> dict[str, Any]:
    values = dataclasses.asdict(score)
    return {"image": dataset.samples[values.pop("plane")].name, **values}


def _standard_error(contestant: Contestant, key: str) -> float:
    values = np.array([getattr(score, key) for score in contestant.scores])
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _overlay_paths(dataset: Dataset, options: argparse.Namespace) -> dict[Path, Sample]:
    labelled = [sample for sample in dataset.samples if sample.labels.any()]
    chosen = labelled[: max(0, options.overlays)]
    folder = options.output / "overlays"
    return {folder / f"{number:02d}_{Path(sample.name).name}.png": sample for number, sample in enumerate(chosen, 1)}


def _draw_overlays(
    model: Model, contestants: Sequence[Contestant], overlays: dict[Path, Sample], console: Console
) -> None:
    """Draw each image with the masks from boxes, and from one click on each object."""
    from napari_sam_lora.report import Panel, draw_panels  # noqa: PLC0415

    with console.bar("drawing", len(overlays), "image", leave=False) as bar:
        for path, sample in overlays.items():
            shown = to_rgb8(sample.image, model.preprocessing)
            rows = []
            for title, by_box in (("boxes", True), ("one click each", False)):
                panels = [Panel("given labels", shown, sample.labels)]
                for contestant in contestants:
                    labels = _predicted(model, sample, contestant.adapter, by_box)
                    panels.append(Panel(f"{contestant.name}: {title}", shown, labels))
                rows.append(panels)
            draw_panels(path, rows)
            bar.update()


def _predicted(model: Model, sample: Sample, adapter: Adapter | None, by_box: bool) -> NDArray[np.int64]:
    found = find_objects(sample.labels)
    if by_box:
        prompts = Prompts(boxes=[item.box for item in found])
    else:
        prompts = Prompts(points=[[click_at_centre(sample.labels == item.label)] for item in found])
    with model.adapted(adapter):
        result = model.segment(model.encode(sample.image), prompts)
    return add_masks(np.zeros(sample.labels.shape, np.int64), result.masks, result.scores)
