"""Optional libraries of medical formats, and words for when they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_sam_lora.errors import InputError

_PACKAGES = {"nibabel": "NIfTI", "pydicom": "DICOM"}


def need(package: str, name: str) -> Any:
    """Import nibabel or pydicom.

    Raises
    ------
    InputError
        If it is not installed; ``name`` is the file that needs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        kind = _PACKAGES[package]
        raise InputError(f"{name}: {kind} files need {package}: pip install 'napari-sam-lora[medical]'.") from error
