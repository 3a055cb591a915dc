"""Settings of a run: what is refused, and what comes back from a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from error_codes import raises

from napari_sam_lora import TrainConfig
from napari_sam_lora.errors import InputError

CODES = dict.fromkeys(("mode", "labels", "tune_decoder"), "setting-not-among-choices")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "early"),
        ("tune_decoder", "half"),
        ("dropout", 1.0),
        *((name, value) for name in ("rank", "steps", "objects", "chunk", "views") for value in (0, -1)),
        *((name, value) for name in ("warmup", "box_share", "mask_share") for value in (-0.1, 1.1)),
        ("validation_share", -0.1),
        ("validation_share", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("weight_decay", -0.1),
        ("corrections", -1),
        ("cache_bytes", -1),
        ("cache_disk_bytes", -1),
        ("check_every", -1),
        ("patience", -1),
        ("labels", "semantic"),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("alpha", 0.0),
        ("alpha", -2.0),
        ("dense_weight", 0.0),
        ("dense_learning_rate", 0.0),
        ("dense_crops", -1),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with raises(InputError, CODES.get(name, f"{name}-out-of-range"), match=name):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup", 0.0),
        ("warmup", 1.0),
        ("box_share", 0.0),
        ("box_share", 1.0),
        ("validation_share", 0.0),
        ("weight_decay", 0.0),
        ("corrections", 0),
        ("cache_bytes", 0),
        ("steps", 1),
        ("dense_crops", 0),
    ],
)
def test_the_limits_themselves_are_allowed(name: str, value: Any) -> None:
    assert getattr(TrainConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(
            mode="full",
            rank=8,
            alpha=16.0,
            late_blocks=3,
            blocks=(0, 2, 5),
            targets=("q", "mlp"),
            tune_decoder="all",
            dropout=0.1,
            steps=7,
            learning_rate=1e-4,
            seed=5,
            labels="classes",
            patience=4,
            recompute=True,
            half_cache=False,
        ),
    ],
)
def test_settings_come_back_from_json(config: TrainConfig) -> None:
    again = TrainConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert isinstance(again.targets, tuple)


def test_lists_become_tuples() -> None:
    config = TrainConfig(blocks=[1, 2], targets=["q"])  # type: ignore[arg-type]
    assert config == TrainConfig(blocks=(1, 2), targets=("q",))
    assert hash(config) == hash(TrainConfig(blocks=(1, 2), targets=("q",)))


def test_unknown_names_are_refused() -> None:
    with raises(InputError, "unknown-setting", match="lr, epochs"):
        TrainConfig.from_dict({"steps": 5, "lr": 1e-3, "epochs": 3})


def test_settings_that_are_left_out_get_their_defaults() -> None:
    assert TrainConfig.from_dict({"steps": 5}) == TrainConfig(steps=5)


def test_patience_without_looks_is_refused() -> None:
    with raises(InputError, "patience-without-checks", match="check_every"):
        TrainConfig(patience=3, check_every=0)


@pytest.mark.parametrize(
    ("values", "error_code"),
    [
        ({"steps": "many"}, "setting-of-wrong-type"),
        ({"rank": None}, "setting-of-wrong-type"),
        ({"targets": 3}, "setting-not-a-list"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(values: dict[str, Any], error_code: str) -> None:
    with raises(InputError, error_code):
        TrainConfig.from_dict(values)
