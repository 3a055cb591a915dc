"""Preferences of the user, and what the panels remember from one start of napari to the next."""

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
    """What the user has chosen for all sessions; the manifest's ``configurations`` has the same names and defaults.

    Attributes
    ----------
    model : str
        Registered name of the model that is loaded when one is first needed.
    device : str
        "auto", or a torch device.
    cache_folder : str
        Where checkpoints and embeddings are kept; empty for the user's cache directory.
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
    """Where settings files are: ``NAPARI_SAM_LORA_CONFIG``, or the user's configuration directory."""
    chosen = os.environ.get(CONFIG_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_config_path(PLUGIN)


def preferences() -> Preferences:
    """The preferences as they are now.

    From napari's Preferences (napari 0.9 and later), otherwise from ``preferences.json`` in `config_folder`. A value
    that cannot be used counts as not set.
    """
    general = _napari_page()
    given = _read(preferences_file()) if general is None else _fields_of(general)
    return _checked(given)


def preferences_file() -> Path:
    """Where preferences are kept in a napari that has no page for them."""
    return config_folder() / "preferences.json"


def save_preferences(changed: Preferences) -> None:
    """Keep preferences where `preferences` finds them."""
    general = _napari_page()
    if general is None:
        _write(preferences_file(), asdict(changed))
        return
    for name, value in asdict(changed).items():
        if getattr(general, name) != value:
            setattr(general, name, value)


def apply_preferences(chosen: Preferences) -> None:
    """Let the cache folder and the allocator preference act, before the first model is loaded.

    Environment variables that are set already go before them.
    """
    if chosen.cache_folder:
        os.environ.setdefault(CACHE_VARIABLE, chosen.cache_folder)
    if chosen.keep_allocator:
        os.environ.setdefault(OPT_OUT, "1")


def embeddings_folder() -> Path | None:
    """Where embeddings are kept on disk; None if the user has not asked for it."""
    return cache_folder() / "embeddings" if preferences().keep_embeddings else None


class RememberedSettings:
    """What one panel remembers; values are what JSON can hold. A file that cannot be used counts as empty.

    Parameters
    ----------
    panel : str
        Name of the panel, and of its file in `config_folder`.
    """

    def __init__(self, panel: str) -> None:
        self._path = config_folder() / f"{panel}.json"

    def read(self) -> dict[str, Any]:
        """All that is remembered."""
        return _read(self._path)

    def update(self, **values: Any) -> None:
        """Remember more; what cannot be written is forgotten, since it is no more than a convenience."""
        known = self.read()
        if known | values != known:
            _write(self._path, known | values)


def _checked(given: dict[str, Any]) -> Preferences:
    """Preferences from values of unknown origin."""
    usual = Preferences()
    usable: dict[str, Any] = {
        one.name: given[one.name]
        for one in fields(Preferences)
        if type(given.get(one.name)) is type(getattr(usual, one.name))
    }
    made = replace(usual, **usable)
    if made.model not in MODELS and not Path(made.model).is_file():
        made = replace(made, model=Preferences.model)
    return replace(made, device=made.device.strip() or Preferences.device, cache_folder=made.cache_folder.strip())


def _napari_page() -> Any | None:
    """napari's settings of this plugin; None if it has none."""
    try:
        from napari.settings import get_plugin_settings  # type: ignore[attr-defined, unused-ignore]  # noqa: PLC0415

        return get_plugin_settings(PLUGIN).general
    except (ImportError, KeyError, AttributeError):  # before 0.9; or the plugin is not registered or disabled
        return None


def _fields_of(general: Any) -> dict[str, Any]:
    return {one.name: getattr(general, one.name, None) for one in fields(Preferences)}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1), "utf-8")
    except OSError:
        return
