"""Settings from dataclasses, options and YAML files."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from napari_sam_lora.cli.options import add_options, checked_values, describe, options_in, settings_of
from napari_sam_lora.cli.settings import PreprocessingSettings, run_settings, sections, template
from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing
from napari_sam_lora.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of all kinds.

    Attributes
    ----------
    cook : str
        Who does it: "anna",
        or somebody else.
    minutes, seconds : int
        How long, 100 % exact.
    heat : float, optional
    tools : tuple of str
    pair : tuple of float, optional
    quick : bool
    size : str
        How much.
    place : Path, optional

    Raises
    ------
    ValueError
        Never.
    """

    cook: str = "anna"
    minutes: int = 5
    seconds: int = 0
    heat: float | None = None
    tools: tuple[str, ...] = ("pan",)
    pair: tuple[float, float] | None = None
    quick: bool = False
    size: Literal["small", "large"] = "small"
    place: Path | None = None
    extra: tuple[int, ...] = field(default_factory=tuple)


def _parse(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser, "recipe", Recipe, skip=("seconds",), flags={"cook": "--chef"})
    return options_in(parser.parse_args(arguments), "recipe")


def test_descriptions_come_from_the_docstring() -> None:
    texts = describe(Recipe)
    assert texts["cook"] == 'Who does it: "anna", or somebody else.'
    assert texts["minutes"] == texts["seconds"] == "How long, 100 % exact."
    assert texts["size"] == "How much."
    assert "place" not in texts


def test_only_options_that_were_given_are_returned() -> None:
    assert _parse() == {}
    assert _parse(
        "--chef", "bo", "--minutes", "7", "--heat", "1e-3", "--tools", "pot", "lid", "--pair", "-1", "2", "--quick",
        "--size", "large", "--place", "here", "--extra", "1", "2",
    ) == {
        "cook": "bo", "minutes": 7, "heat": 0.001, "tools": ("pot", "lid"), "pair": (-1, 2), "quick": True,
        "size": "large", "place": Path("here"), "extra": (1, 2),
    }  # fmt: skip
    assert _parse("--no-quick", "--heat", "none") == {"quick": False, "heat": None}
    assert _parse("--place", "none", "--chef", "none") == {"place": Path("none"), "cook": "none"}


def test_the_help_shows_descriptions_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "how long, 100 % exact (default: 5)" in text
    assert "(default: pan)" in text
    assert "{small,large}" in text
    assert "--seconds" not in text


def test_values_of_a_file_get_the_right_types() -> None:
    values = yaml.safe_load("{heat: 2e-3, minutes: 3, tools: [a, b], pair: [1, 2.5], place: x, quick: true}")
    assert checked_values(Recipe, values, "recipe") == {
        "heat": 0.002, "minutes": 3, "tools": ("a", "b"), "pair": (1.0, 2.5), "place": Path("x"), "quick": True,
    }  # fmt: skip
    assert checked_values(Recipe, None, "recipe") == {}
    assert checked_values(Recipe, {"heat": None}, "recipe") == {"heat": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minuts": 5, "hours": 1}, "recipe has no setting minuts, hours; there are cook, minutes"),
        ([1], "recipe must hold names and values"),
        ({"minutes": "many"}, "recipe.minutes must be a whole number, not 'many'"),
        ({"minutes": 1.5}, "recipe.minutes must be a whole number"),
        ({"minutes": True}, "recipe.minutes must be a whole number"),
        ({"minutes": None}, "recipe.minutes must be a whole number"),
        ({"heat": "hot"}, "recipe.heat must be a number, not 'hot'"),
        ({"heat": True}, "recipe.heat must be a number"),
        ({"quick": "yes"}, "recipe.quick must be true or false"),
        ({"cook": 5}, "recipe.cook must be text"),
        ({"size": "huge"}, "recipe.size is one of small, large, not 'huge'"),
        ({"tools": "pan"}, "recipe.tools must be a list"),
        ({"tools": [1]}, "recipe.tools must be text"),
        ({"pair": [1, 2, 3]}, "recipe.pair must be a list of 2"),
        ({"place": 5}, "recipe.place must be a path"),
    ],
)
def test_a_value_of_another_type_is_named(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.").replace("(", r"\(")):
        checked_values(Recipe, values, "recipe")


def test_every_training_setting_has_an_option_and_a_place_in_the_template() -> None:
    parser = argparse.ArgumentParser()
    for name, cls in sections().items():
        add_options(parser, name, cls)  # raises if two settings share an option
    written = yaml.safe_load(template())
    assert set(written) == set(sections())
    for name, cls in sections().items():
        assert list(written[name]) == [setting.name for setting in settings_of(cls)]
    for line in template().splitlines():
        assert len(line) <= 120


def _run_settings(config: Path | None, *arguments: str) -> Any:
    parser = argparse.ArgumentParser()
    for name, cls in sections().items():
        add_options(parser, name, cls, flags={"name": "--model", "path": "--data", "adapter": "--output"})
    return run_settings(parser.parse_args(arguments), config)


def test_the_template_holds_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(template())
    assert _run_settings(tmp_path / "run.yaml").training == TrainConfig()
    written, default = _run_settings(tmp_path / "run.yaml"), _run_settings(None)
    assert written.model == default.model
    assert written.preprocessing == default.preprocessing
    assert written.output.adapter == tmp_path / default.output.adapter


def test_options_go_before_the_file_and_paths_of_the_file_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: {input_size: 128}\ndata: {path: set}\ntraining: {rank: 2, steps: 9, targets: [q, mlp]}\n"
        "preprocessing: {ct_window: bone}\noutput: {adapter: out/a.safetensors}\n"
    )
    settings = _run_settings(path, "--rank", "16", "--data", "elsewhere")
    assert settings.model.input_size == 128
    assert settings.data.path == Path("elsewhere")
    assert (settings.training.rank, settings.training.steps) == (16, 9)
    assert settings.training.targets == ("q", "mlp")
    assert settings.preprocessing.resolve() == Preprocessing(window=CT_WINDOWS["bone"])
    assert settings.output.metrics_path == tmp_path / "out" / "a.json"
    assert _run_settings(path).data.path == tmp_path / "set"
    assert _run_settings(path, "--window", "0", "9").preprocessing.resolve() == Preprocessing(window=(0, 9))


def test_a_model_file_beside_the_settings_is_found_and_a_named_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").touch()
    for name, expected in (("mine.pth", str(tmp_path / "mine.pth")), ("vit_b", "vit_b")):
        (tmp_path / "run.yaml").write_text(f"model: {{name: {name}}}")
        assert _run_settings(tmp_path / "run.yaml").model.name == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {rnak: 4}", "run.yaml: training has no setting rnak; there are mode, rank"),
        ("trainig: {rank: 4}", "run.yaml has an unknown section trainig; there are model, data"),
        ("training: {rank: 0}", "rank must be at least 1"),
        ("training: {mode: early}", "training.mode is one of"),
        ("- 1", "must hold the sections"),
        ("{", "run.yaml is not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "run.yaml is not YAML"),
        ("preprocessing: {ct_window: knee}", "preprocessing.ct_window is one of abdomen"),
        ("preprocessing: {percentiles: [5, 1]}", "the lower one first"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError) as raised:
        _run_settings(tmp_path / "run.yaml").preprocessing.resolve()
    assert message in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        _run_settings(tmp_path / "none.yaml")


def test_the_choice_of_ct_windows_is_that_of_the_images_module() -> None:
    (hint,) = (setting.hint for setting in settings_of(PreprocessingSettings) if setting.name == "ct_window")
    assert set(CT_WINDOWS) == set(hint.__args__[0].__args__)
    assert dataclasses.is_dataclass(PreprocessingSettings)
