"""Preferences, remembered settings of panels, and their declaration in the manifest."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from npe2 import PluginManifest

from napari_sam_lora._qt.viewer import preferences as settings
from napari_sam_lora._qt.viewer.preferences import (
    PLUGIN,
    Preferences,
    RememberedSettings,
    apply_preferences,
    preferences,
)
from napari_sam_lora.model.registry import MODELS

MANIFEST = Path(str(files("napari_sam_lora") / "napari.yaml"))


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a napari without preferences of plugins."""
    monkeypatch.setattr(settings, "_napari_page", lambda: None)


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Any:
    """Return napari's own settings of this plugin, in a folder of the test."""
    napari_settings = pytest.importorskip("napari.settings")
    # Supported from 0.7 on: without napari's page the preferences come from a file, which `no_page` tests everywhere.
    if not hasattr(napari_settings, "get_plugin_settings"):
        pytest.skip("napari before 0.9 has no page of settings for a plugin; `no_page` tests the file in its place")
    request.getfixturevalue("plugin_settings")
    manager = request.getfixturevalue("npe2pm")
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_file(MANIFEST))
    return napari_settings.get_plugin_settings(PLUGIN).general


def test_the_manifest_is_what_npe2_calls_valid() -> None:
    command = [sys.executable, "-m", "npe2", "validate", "napari_sam_lora"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_icon_of_the_manifest_is_in_the_package() -> None:
    package, _, name = str(PluginManifest.from_file(MANIFEST).icon).partition(":")
    assert (files(package) / name).read_text("utf-8").lstrip().startswith("<svg")


def test_preferences_and_manifest_have_the_same_names_and_defaults() -> None:
    declared = PluginManifest.from_file(MANIFEST).contributions.configurations["general"].properties
    assert {name: one.default for name, one in declared.items()} == dataclasses.asdict(Preferences())
    assert declared["model"].enum == list(MODELS)


def test_what_is_chosen_in_napari_is_the_preference(page: Any) -> None:
    assert preferences() == Preferences()
    page.model, page.autosave = "vit_b", False
    assert preferences() == Preferences(model="vit_b", autosave=False)


def test_without_a_page_in_napari_a_file_holds_the_preferences(no_page: None) -> None:
    assert preferences() == Preferences()
    settings.save_preferences(Preferences(device="cpu", model="vit_l"))
    assert json.loads(settings.preferences_file().read_text())["device"] == "cpu"
    assert preferences() == Preferences(device="cpu", model="vit_l")


@pytest.mark.parametrize("content", ["", "[1]", '{"model": 3, "autosave": "yes", "device": " "}', '{"model": "gone"}'])
def test_preferences_that_cannot_be_used_count_as_not_set(no_page: None, content: str) -> None:
    settings.preferences_file().parent.mkdir(parents=True, exist_ok=True)
    settings.preferences_file().write_text(content)
    assert preferences() == Preferences()


def test_an_environment_variable_goes_before_the_preferred_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAM_LORA_CACHE", "/chosen")
    apply_preferences(Preferences(cache_folder="/preferred"))
    assert os.environ["NAPARI_SAM_LORA_CACHE"] == "/chosen"
    monkeypatch.delenv("NAPARI_SAM_LORA_CACHE")
    monkeypatch.setenv("NAPARI_SAM_LORA_KEEP_ALLOCATOR", "")
    monkeypatch.delenv("NAPARI_SAM_LORA_KEEP_ALLOCATOR")
    apply_preferences(Preferences(cache_folder="/preferred", keep_allocator=True))
    assert os.environ["NAPARI_SAM_LORA_CACHE"] == "/preferred"
    assert os.environ["NAPARI_SAM_LORA_KEEP_ALLOCATOR"] == "1"


def test_a_panel_remembers_until_its_file_is_damaged() -> None:
    RememberedSettings("panel").update(size=3, files=["a"])
    RememberedSettings("panel").update(size=4)
    assert RememberedSettings("panel").read() == {"size": 4, "files": ["a"]}
    (settings.config_folder() / "panel.json").write_text("{")
    assert RememberedSettings("panel").read() == {}


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_SAM_LORA_CONFIG", str(tmp_path / "file"))
    RememberedSettings("panel").update(size=3)
    assert RememberedSettings("panel").read() == {}
