"""Descriptions of parameters, and checks of their values."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from error_codes import raises
from settings_example import Recipe

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.run import SECTIONS
from napari_sam_lora.parameters.schema import Parameter, kind_of, parameters_of, validated
from napari_sam_lora.parameters.tables import SECTIONS as TABLES


def _described(name: str) -> Parameter:
    (found,) = (one for one in parameters_of(Recipe) if one.name == name)
    return found


def test_a_parameter_is_described_by_its_field() -> None:
    minutes, heat = _described("minutes"), _described("heat")
    assert (minutes.kind, minutes.default, minutes.low, minutes.high) == (int, 5, 1, None)
    assert (minutes.label, minutes.description) == ("Minutes in all", "How long, 100 % exact.")
    assert (heat.kind, heat.is_optional, heat.none, heat.step) == (float, True, "that of the stove", 0.5)
    assert _described("seconds").rule == "must be at least 0 and less than 60"
    assert (heat.rule, _described("cook").rule, _described("cook").label) == ("must be more than 0", "", "cook")
    assert _described("extra").default == ()
    assert [one.name for one in parameters_of(Recipe, skip=("cook", "place"))][:2] == ["minutes", "seconds"]


def test_types_are_named_in_words() -> None:
    named = {one.name: kind_of(one) for one in parameters_of(Recipe)}
    assert named["size"] == "small, large"
    assert named["tools"] == "a list of texts"
    assert named["pair"] == "2 numbers"
    assert named["place"] == "a path"


@pytest.mark.parametrize("cls", sorted({*SECTIONS.values(), *(one for _, one, _ in TABLES)}, key=str))
def test_every_parameter_has_a_description_and_a_default_that_is_valid(cls: Any) -> None:
    assert all(one.description for one in parameters_of(cls))
    assert cls(**{one.name: one.default for one in parameters_of(cls)}) == cls()


def test_the_docstring_lists_the_parameters() -> None:
    assert "minutes : a whole number\n    How long, 100 % exact." in str(Recipe.__doc__)


def test_an_object_behaves_like_any_frozen_dataclass() -> None:
    recipe = Recipe("bo", 7, tools=("pot",))
    assert dataclasses.replace(recipe, minutes=8) == Recipe(cook="bo", minutes=8, tools=("pot",))
    assert dataclasses.asdict(recipe)["minutes"] == 7
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe
    assert hash(recipe) == hash(Recipe("bo", 7, tools=("pot",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.minutes = 9  # type: ignore[misc]
    with raises(InputError, "minutes-out-of-range"):
        dataclasses.replace(recipe, minutes=0)


def test_what_files_and_numpy_hold_is_converted() -> None:
    made: Any = Recipe
    recipe = made(minutes=np.int64(7), heat=np.float32(2), tools=["a"], pair=[1, "2.5"], place="x")
    assert recipe == Recipe(minutes=7, heat=2.0, tools=("a",), pair=(1.0, 2.5), place=Path("x"))
    assert type(recipe.minutes) is int
    values = yaml.safe_load("{heat: 2e-3, minutes: 3, tools: [a, b], pair: [1, 2.5], place: x, quick: true}")
    assert validated(Recipe, values, "recipe") == Recipe(
        heat=0.002, minutes=3, tools=("a", "b"), pair=(1.0, 2.5), place=Path("x"), quick=True
    )
    assert validated(Recipe, None, "recipe") == Recipe()
    assert validated(Recipe, {"heat": None}, "recipe").heat is None


@pytest.mark.parametrize(
    ("values", "error_code", "names"),
    [
        ({"minuts": 5, "hours": 1}, "unknown-setting", "recipe.*minuts, hours.*cook, minutes"),
        ([1], "settings-without-names", "recipe"),
        ({"minutes": "many"}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number, not 'many'"),
        ({"minutes": 1.5}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"minutes": True}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"minutes": None}, "setting-of-wrong-type", r"recipe\.minutes must be a whole number"),
        ({"minutes": 0}, "minutes-out-of-range", r"recipe\.minutes must be at least 1, not 0"),
        ({"seconds": 60}, "seconds-out-of-range", r"recipe\.seconds must be at least 0 and less than 60, not 60"),
        ({"heat": "hot"}, "setting-of-wrong-type", r"recipe\.heat must be a number, not 'hot'"),
        ({"heat": True}, "setting-of-wrong-type", r"recipe\.heat must be a number"),
        ({"heat": math.nan}, "heat-out-of-range", r"recipe\.heat"),
        ({"heat": math.inf}, "heat-out-of-range", r"recipe\.heat must be a finite number"),
        ({"quick": "yes"}, "setting-of-wrong-type", r"recipe\.quick must be true or false"),
        ({"cook": 5}, "setting-of-wrong-type", r"recipe\.cook must be text"),
        ({"size": "huge"}, "setting-not-among-choices", r"recipe\.size .* small, large, not 'huge'"),
        ({"tools": "pan"}, "setting-not-a-list", r"recipe\.tools must be a list"),
        ({"tools": [1]}, "setting-of-wrong-type", r"recipe\.tools must be text"),
        ({"pair": [1, 2, 3]}, "setting-not-a-list", r"recipe\.pair must be a list of 2"),
        ({"pair": [1]}, "setting-not-a-list", r"recipe\.pair must be a list of 2"),
        ({"place": 5}, "setting-of-wrong-type", r"recipe\.place must be a path"),
        ({"quick": True, "minutes": 40}, "not-quick", "This is not quick"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values: Any, error_code: str, names: str) -> None:
    with raises(InputError, error_code, match=names):
        validated(Recipe, values, "recipe", lambda name: f"recipe.{name}")
    if isinstance(values, dict):
        with raises(InputError, error_code, match=names.removeprefix(r"recipe\.").replace("recipe", "Recipe")):
            Recipe(**values)


def test_too_many_values_are_a_type_error() -> None:
    made: Any = Recipe
    with pytest.raises(TypeError):
        made(*range(11))
    with pytest.raises(TypeError):
        made("bo", cook="anna")
