"""Preferences of the user, and settings that panels remember between sessions of napari."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from napari_sam_lora.files import atomic_path
from napari_sam_lora.model.allocator import OPT_OUT
from napari_sam_lora.model.download import CACHE_VARIABLE, cache_folder
from napari_sam_lora.model.registry import MODELS

PLUGIN = "napari-sam-lora"
CONFIG_VARIABLE = "NAPARI_SAM_LORA_CONFIG"


@dataclass(frozen=True)
class Preferences:
    """Choices of the user for all sessions; ``configurations`` in the manifest has the same names and defaults.

    Attributes
    ----------
    model : str
        Registered name, or checkpoint file, of the model that is loaded when one is first needed.
    device : str
        "auto", or a torch device.
    cache_folder : str
        Folder of checkpoints and embeddings; empty for the user's cache directory.
    autosave : bool
        Whether prompts, objects and adapters are saved while working.
    keep_embeddings : bool
        Whether embeddings are kept on disk, so that a later session need not encode again.
    keep_allocator : bool
        Leave the memory allocator of the system alone; slower on a CPU under Linux.
    """

    model: str = "sam_nano"
    device: str = "auto"
    cache_folder: str = ""
    autosave: bool = True
    keep_embeddings: bool = False
    keep_allocator: bool = False


def config_folder() -> Path:
    """Return the folder of settings files: ``NAPARI_SAM_LORA_CONFIG``, or the user's configuration directory."""
    chosen = os.environ.get(CONFIG_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_config_path(PLUGIN)


def preferences() -> Preferences:
    """Return the current preferences.

    They are read from napari's Preferences (napari 0.9 and later), otherwise from ``preferences.json`` in
    `config_folder`. A value that cannot be used counts as not set.
    """
    page = _napari_page()
    return _validated(_read(preferences_file()) if page is None else _fields_of(page))


def preferences_file() -> Path:
    """Return the file that holds preferences if napari has no page for them."""
    return config_folder() / "preferences.json"


def save_preferences(changed: Preferences) -> None:
    """Write preferences where `preferences` reads them."""
    page = _napari_page()
    if page is None:
        _write(preferences_file(), asdict(changed))
        return
    for name, value in asdict(changed).items():
        if getattr(page, name) != value:
            setattr(page, name, value)


def apply_preferences(chosen: Preferences) -> None:
    """Apply the preferred cache folder and memory allocator; call this before the first model is loaded.

    Environment variables that are already set take precedence.
    """
    if chosen.cache_folder:
        os.environ.setdefault(CACHE_VARIABLE, chosen.cache_folder)
    if chosen.keep_allocator:
        os.environ.setdefault(OPT_OUT, "1")


def embeddings_folder() -> Path | None:
    """Return the folder of embeddings on disk; None if the user has not chosen to keep them."""
    return cache_folder() / "embeddings" if preferences().keep_embeddings else None


class RememberedSettings:
    """Settings that one panel remembers, as JSON values. A file that cannot be read counts as empty.

    Parameters
    ----------
    panel : str
        Name of the panel, and of its file in `config_folder` without ``.json``.
    """

    def __init__(self, panel: str) -> None:
        self._path = config_folder() / f"{panel}.json"

    def read(self) -> dict[str, Any]:
        """Return all remembered values by name."""
        return _read(self._path)

    def update(self, **values: Any) -> None:
        """Remember values, beside those that are remembered already. A file that cannot be written is no error."""
        remembered = self.read()
        if remembered | values != remembered:
            _write(self._path, remembered | values)


def _validated(values: dict[str, Any]) -> Preferences:
    """Make preferences of values from a file that anybody may have edited."""
    defaults = Preferences()
    valid: dict[str, Any] = {
        one.name: values[one.name]
        for one in fields(Preferences)
        if type(values.get(one.name)) is type(getattr(defaults, one.name))
    }
    made = replace(defaults, **valid)
    if made.model not in MODELS and not Path(made.model).is_file():
        made = replace(made, model=Preferences.model)
    return replace(made, device=made.device.strip() or Preferences.device, cache_folder=made.cache_folder.strip())


def _napari_page() -> Any | None:
    """Return napari's settings of this plugin; None if there are none."""
    try:
        from napari.settings import get_plugin_settings  # type: ignore[attr-defined, unused-ignore]  # noqa: PLC0415

        return get_plugin_settings(PLUGIN).general
    except (ImportError, KeyError, AttributeError):  # before 0.9; or the plugin is not registered or disabled
        return None


def _fields_of(page: Any) -> dict[str, Any]:
    return {one.name: getattr(page, one.name, None) for one in fields(Preferences)}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1), "utf-8")
    except OSError:
        return
