"""Import libraries of medical formats, which are optional dependencies."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_sam_lora.errors import InputError

_FORMATS = {"nibabel": "NIfTI", "pydicom": "DICOM"}


def import_optional(package: str, file_name: str) -> Any:
    """Import nibabel or pydicom.

    Parameters
    ----------
    package : str
        "nibabel" or "pydicom".
    file_name : str
        The file that needs it, for the message.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{file_name}: {_FORMATS[package]} files need {package}: pip install 'napari-sam-lora[medical]'.",
            code="package-missing",
        ) from error
