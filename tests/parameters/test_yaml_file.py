"""Settings of a training run and their YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS
from napari_sam_lora.parameters.run import SECTIONS, PreprocessingSettings
from napari_sam_lora.parameters.schema import parameters_of
from napari_sam_lora.parameters.yaml_file import read_config, template


def test_every_setting_has_a_place_in_the_template() -> None:
    written = yaml.safe_load(template())
    assert set(written) == set(SECTIONS)
    for name, cls in SECTIONS.items():
        assert list(written[name]) == [one.name for one in parameters_of(cls)]
    for line in template().splitlines():
        assert len(line) <= 120


@pytest.mark.parametrize(
    ("text", "error_code", "names"),
    [
        ("training: {rnak: 4}", "unknown-setting", "run.yaml: training.* rnak.* mode, rank"),
        ("trainig: {rank: 4}", "unknown-section", "run.yaml.* trainig.* model, data"),
        ("training: {rank: 0}", "rank-out-of-range", r"run.yaml: training\.rank must be at least 1, not 0"),
        ("training: {mode: early}", "setting-not-among-choices", r"run.yaml: training\.mode"),
        ("- 1", "settings-without-sections", "run.yaml"),
        ("{", "not-yaml", "run.yaml"),
        ("a: !!python/object/apply:os.getcwd []", "not-yaml", "run.yaml"),
        ("preprocessing: {ct_window: knee}", "setting-not-among-choices", r"preprocessing\.ct_window .* abdomen"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(text: str, error_code: str, names: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with raises(InputError, error_code, match=names):
        read_config(tmp_path / "run.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with raises(InputError, "file-not-readable", match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")


def test_a_window_and_a_ct_window_exclude_each_other() -> None:
    with raises(InputError, "two-windows"):
        PreprocessingSettings(window=(1, 5), ct_window="bone").resolve()


def test_the_choice_of_ct_windows_is_that_of_the_images_module() -> None:
    (kind,) = (one.kind for one in parameters_of(PreprocessingSettings) if one.name == "ct_window")
    assert set(CT_WINDOWS) == set(get_args(kind))
