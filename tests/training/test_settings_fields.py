"""Settings dataclasses: descriptions from docstrings, and checks of values from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from error_codes import raises
from settings_example import Recipe

from napari_sam_lora.errors import InputError
from napari_sam_lora.training.settings_fields import checked_values, describe


def test_descriptions_come_from_the_docstring() -> None:
    texts = describe(Recipe)
    assert texts["cook"] == 'Who does it: "anna", or somebody else.'
    assert texts["minutes"] == texts["seconds"] == "How long, 100 % exact."
    assert texts["size"] == "How much."
    assert "place" not in texts


def test_values_of_a_file_get_the_right_types() -> None:
    values = yaml.safe_load("{heat: 2e-3, minutes: 3, tools: [a, b], pair: [1, 2.5], place: x, quick: true}")
    assert checked_values(Recipe, values, "recipe") == {
        "heat": 0.002, "minutes": 3, "tools": ("a", "b"), "pair": (1.0, 2.5), "place": Path("x"), "quick": True,
    }  # fmt: skip
    assert checked_values(Recipe, None, "recipe") == {}
    assert checked_values(Recipe, {"heat": None}, "recipe") == {"heat": None}


@pytest.mark.parametrize(
    ("values", "error_code", "names"),
    [
        ({"minuts": 5, "hours": 1}, "unknown-setting", "recipe.*minuts, hours.*cook, minutes"),
        ([1], "settings-without-names", "recipe"),
        ({"minutes": "many"}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number, not 'many'"),
        ({"minutes": 1.5}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"minutes": True}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"minutes": None}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"heat": "hot"}, "setting-of-wrong-type", r"recipe\.heat must be a number, not 'hot'"),
        ({"heat": True}, "setting-of-wrong-type", r"recipe\.heat must be a number"),
        ({"quick": "yes"}, "setting-of-wrong-type", r"recipe\.quick must be true or false"),
        ({"cook": 5}, "setting-of-wrong-type", r"recipe\.cook must be text"),
        ({"size": "huge"}, "setting-not-among-choices", r"recipe\.size .* small, large, not 'huge'"),
        ({"tools": "pan"}, "setting-not-a-list", r"recipe\.tools must be a list"),
        ({"tools": [1]}, "setting-of-wrong-type", r"recipe\.tools must be text"),
        ({"pair": [1, 2, 3]}, "setting-not-a-list", r"recipe\.pair must be a list of 2"),
        ({"place": 5}, "setting-of-wrong-type", r"recipe\.place must be a path"),
    ],
)
def test_a_value_of_another_type_is_named(values: Any, error_code: str, names: str) -> None:
    with raises(InputError, error_code, match=names):
        checked_values(Recipe, values, "recipe")
