"""Options made from descriptions of parameters, and how they override a YAML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from error_codes import raises
from settings_example import Recipe

from napari_sam_lora.cli.options import FLAGS, add_options, add_section, options_in, run_settings
from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing
from napari_sam_lora.parameters.run import SECTIONS
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.parameters.yaml_file import template


def _parse(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser, "recipe", Recipe, skip=("seconds",), flags={"cook": "--chef"})
    return options_in(parser.parse_args(arguments), "recipe")


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
    assert "(default: that of the stove)" in text
    assert "{small,large}" in text
    assert "--seconds" not in text


def test_every_training_setting_has_its_own_option() -> None:
    parser = argparse.ArgumentParser()
    for name, cls in SECTIONS.items():
        add_section(parser, name, cls)  # raises if two settings share an option
    expected = sum(len(FLAGS.get(name, ())) for name in SECTIONS)
    assert sum(f"{flag} " in parser.format_help() for flags in FLAGS.values() for flag in flags.values()) == expected


def _run_settings(config: Path | None, *arguments: str) -> Any:
    parser = argparse.ArgumentParser()
    for name, cls in SECTIONS.items():
        add_section(parser, name, cls)
    return run_settings(parser.parse_args(arguments), config)


def test_the_template_holds_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(template())
    assert _run_settings(tmp_path / "run.yaml").training == TrainConfig()
    written, default = _run_settings(tmp_path / "run.yaml"), _run_settings(None)
    assert written.model == default.model
    assert written.preprocessing == default.preprocessing
    assert written.output.adapter == tmp_path / default.output.adapter


def test_options_take_precedence_over_the_file_and_paths_of_the_file_are_relative_to_it(tmp_path: Path) -> None:
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
    ("text", "error_code", "names"),
    [
        ("training: {rank: 0}", "rank-out-of-range", "rank"),
        ("preprocessing: {percentiles: [5, 1]}", "invalid-percentiles", "5"),
    ],
)
def test_settings_of_a_file_that_make_no_sense_are_refused(
    text: str, error_code: str, names: str, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with raises(InputError, error_code, match=names):
        _run_settings(tmp_path / "run.yaml").preprocessing.resolve()
