"""Fine-tune a LoRA adapter on labelled images, check it on held-out objects, and write it.

Ctrl-C ends the training after the current step; the best state so far is checked and written. A second Ctrl-C writes
nothing. Settings come from a YAML file (see --init-config), from options, or from both; options take precedence.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam_lora.cli.console import Console, check_output, table, to_json, write_text
from napari_sam_lora.cli.interrupts import stop_at_first_interrupt
from napari_sam_lora.cli.loading import open_model
from napari_sam_lora.cli.options import add_section, run_settings
from napari_sam_lora.errors import InputError
from napari_sam_lora.io.datasets import Dataset, read_dataset
from napari_sam_lora.parameters.run import SECTIONS, DataSettings, RunSettings
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.parameters.yaml_file import template
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.evaluation.found import FoundPair
    from napari_sam_lora.training.evaluation.metrics import Figures
    from napari_sam_lora.training.run import FineTuneReport, FineTuneRun

NAME = "train"
HELP = "fine-tune an adapter on labelled images"
STOPPING = "stopping after this step, to check and keep the best so far; Ctrl-C again keeps nothing"
FIGURES = (
    ("box_iou", "IoU with a box"),
    ("box_dice", "Dice with a box"),
    ("click_iou", "IoU with one click"),
    ("corrected_iou", "IoU after six clicks"),
    ("clicks_to_good", "clicks to IoU 0.8"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml", help="settings")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument(
        "--init-config",
        nargs="?",
        const="-",
        metavar="PATH",
        help="write a commented file of all settings (to standard output without a path) and end",
    )
    for name, cls in SECTIONS.items():
        add_section(parser, name, cls)
    parser.usage = "%(prog)s [CONFIG.yaml] [options]"
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Train an adapter, check it and write it."""
    if options.init_config is not None:
        _write_template(options.init_config, options.overwrite, console)
        return
    settings = run_settings(options, options.config)
    adapter_path, metrics_path = settings.output.adapter, settings.output.metrics_path
    if adapter_path.suffix != ".safetensors":
        raise InputError(
            f"The adapter file must end in .safetensors, unlike {adapter_path.name}.", code="wrong-file-ending"
        )
    check_output([adapter_path, metrics_path], options.overwrite)
    dataset = load_dataset(settings.data, settings.training.labels, console)
    model = open_model(settings.model, settings.preprocessing.resolve(), console)
    adapter, report = train_adapter(
        model,
        dataset,
        settings.training,
        console,
        held_out=_held_out(settings),
        start=None if settings.model.start is None else _load(settings.model.start),
        keep_interrupted=True,
    )
    adapter.save(adapter_path)
    write_text(metrics_path, to_json(metrics_of(report, settings)))
    if len(report.losses) < settings.training.steps and not settings.training.patience:
        console.say(f"Stopped after {len(report.losses)} of {settings.training.steps} steps.")
    console.say(f"Trained on {pluralize(report.train_count, 'object')} in {report.seconds:.0f} s.")
    console.say(f"{report.counts}.")
    console.say(_comparison(report.base, report.adapted))
    if report.found is not None:
        console.say(_found(report.found))
    console.say(f"Verdict: {report.verdict}. {report.reason}")
    if report.checked_on == "same images":
        console.say("Parts of the images that were learned are held out: it is not checked on other images.")
    console.say(f"{adapter_path} ({adapter_path.stat().st_size / 1024:.0f} KiB), figures in {metrics_path}.")


def load_dataset(data: DataSettings, meaning: str, console: Console) -> Dataset:
    """Read a labelled set, whose labels mean instances, classes or a mask, and warn about files that are left out."""
    if data.path is None:
        raise InputError(
            "No data: name a folder, a CSV table or a COCO file with --data, or as data: path: in the YAML file.",
            code="no-training-data",
        )
    with console.progress("reading images", "image", leave=False) as progress:
        dataset = read_dataset(
            data.path,
            image_folder=data.image_folder,
            label_folder=data.label_folder,
            axes=data.axes,
            classes=meaning == "classes",
            progress=progress,
        )
    for warning in dataset.warnings:
        console.warn(warning)
    return dataset


def train_adapter(
    model: Model,
    dataset: Dataset,
    config: TrainConfig,
    console: Console,
    *,
    name: str = "fine-tuning",
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
    keep_interrupted: bool = False,
) -> tuple[Adapter, FineTuneReport]:
    """Fine-tune with a progress bar; with ``keep_interrupted`` a first Ctrl-C keeps what was learned so far."""
    from napari_sam_lora.api import iter_fine_tune  # noqa: PLC0415  torch is imported when it is needed

    run_ = iter_fine_tune(model, dataset.pairs, config, held_out=held_out, start=start, class_names=dataset.class_names)
    try:
        with stop_at_first_interrupt(run_.stop, STOPPING) if keep_interrupted else nullcontext():
            result = _follow(run_, config, console, name)
    except BaseException:
        run_.discard()  # frees its memory and its temporary files
        raise
    for warning in run_.warnings:
        console.warn(warning)
    return result


def _follow(run_: FineTuneRun, config: TrainConfig, console: Console, name: str) -> tuple[Adapter, FineTuneReport]:
    held_out_iou = ""
    done = 0
    with console.bar(name, config.steps, "step") as bar:
        for step in run_:
            bar.total, done = step.steps, step.step
            shown = {"loss": f"{step.loss:z.3f}", "phase": step.phase}
            held_out_iou = held_out_iou if step.held_out_iou is None else f"{step.held_out_iou:.3f}"
            bar.set_postfix(shown | ({"held-out IoU": held_out_iou} if held_out_iou else {}), refresh=False)
            bar.update()
        if not done:
            raise KeyboardInterrupt  # before there was anything to keep
        bar.set_postfix(phase="checking held-out objects", refresh=console.watched)
        return run_.result()


def metrics_of(report: FineTuneReport, settings: RunSettings) -> dict[str, Any]:
    """Return the content of the metrics file of a run."""
    values = dataclasses.asdict(report)
    return {
        "verdict": values.pop("verdict"),
        "reason": values.pop("reason"),
        "base": values.pop("base"),
        "adapted": values.pop("adapted"),
        "settings": {
            field.name: dataclasses.asdict(getattr(settings, field.name)) for field in dataclasses.fields(settings)
        },
        **values,
    }


def _comparison(base: Figures, adapted: Figures) -> str:
    if not base.count:
        return "No object was held out."
    rows = [(title, f"{getattr(base, name):.3f}", f"{getattr(adapted, name):.3f}") for name, title in FIGURES]
    return table((f"{base.count} held-out objects", "base", "adapted"), rows)


def _found(found: FoundPair) -> str:
    """Format what is found without prompts: the average precision at IoU 0.5 over held-out objects."""
    both = (("base", found.base), ("adapted", found.adapted))
    shown = [f"{name} {matches.average_precision:.3f}" for name, matches in both if matches is not None]
    return f"Average precision without prompts: {', '.join(shown)}."


def _held_out(settings: RunSettings) -> Sequence[str]:
    data = settings.data
    earlier = () if data.previous is None else _load(data.previous).info.training.get("held_out", ())
    return tuple(dict.fromkeys([*data.held_out, *earlier]))


def _load(path: Path) -> Adapter:
    from napari_sam_lora.lora.adapter import Adapter  # noqa: PLC0415

    return Adapter.load(path)


def _write_template(place: str, overwrite: bool, console: Console) -> None:
    if place == "-":
        print(template(), file=sys.stdout)
        return
    check_output([Path(place)], overwrite)
    write_text(Path(place), template())
    console.say(f"{place}: set data: path: there, then run 'napari-sam-lora train {place}'.")
