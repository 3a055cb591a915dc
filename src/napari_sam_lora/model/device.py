"""Where a model computes."""

from __future__ import annotations

import torch

from napari_sam_lora.errors import InputError


def pick_device(device: str = "auto") -> torch.device:
    """The device of a name; "auto" takes the fastest kind there is."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device!r} cannot be used here; try 'auto' or 'cpu'.") from error
    return chosen
