"""The device that a model runs on."""

from __future__ import annotations

import torch

from napari_sam_lora.errors import InputError


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of a name; "auto" picks CUDA, then MPS, then the CPU.

    Raises
    ------
    InputError
        If the device is unknown or not available.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"The device {device!r} cannot be used here; try 'auto' or 'cpu'.", code="device-not-available"
        ) from error
    return chosen
