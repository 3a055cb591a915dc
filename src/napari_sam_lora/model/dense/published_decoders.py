"""micro-sam's decoders as dense heads: how objects are cut out of their maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.unetr_decoder import load_unetr_decoder
from napari_sam_lora.parameters.instances import InstanceConfig

_FOREGROUND_SMOOTHING = 1.0
_SMALLEST = 100


def _recipe(centre: float, boundary: float, smoothing: float) -> InstanceConfig:
    """micro-sam's thresholds, below which its distances make seeds, in the terms of `InstanceConfig`."""
    return InstanceConfig(
        separation=1 - boundary,
        smallest=_SMALLEST,
        smoothing=smoothing,
        centre_separation=1 - centre,
        foreground_smoothing=_FOREGROUND_SMOOTHING,
    )


# Defaults of ``InstanceSegmentationWithDecoder.generate`` and of ``micro_sam/_model_settings.py`` (AIS_SETTINGS).
DEFAULT_RECIPE = _recipe(0.5, 0.5, 1.6)
RECIPES = {
    "vit_t_lm": _recipe(0.5, 0.5, 2.0),
    "vit_b_lm": _recipe(0.4, 0.5, 2.0),
    "vit_l_lm": _recipe(0.4, 0.4, 1.6),
    "vit_t_em_organelles": _recipe(0.4, 0.5, 1.2),
    "vit_b_em_organelles": _recipe(0.3, 0.4, 1.2),
    "vit_l_em_organelles": _recipe(0.3, 0.4, 1.2),
}


def published_head(state: Mapping[str, Tensor], name: str = "") -> DenseModel:
    """Make a dense head of a decoder's tensors.

    Parameters
    ----------
    state : mapping of str to Tensor
        With the names of micro-sam's files.
    name : str
        Of the model, for the parameters that suit it; others get micro-sam's defaults.

    Raises
    ------
    CheckpointError
        If these are not the tensors of such a decoder.
    """
    return DenseModel(load_unetr_decoder(state), RECIPES.get(name, DEFAULT_RECIPE))
