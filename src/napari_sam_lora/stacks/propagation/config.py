"""The least score that parameters of propagation mean for a model."""

from __future__ import annotations

from segment_anything.modeling import Sam

from napari_sam_lora.model.families.nano import DensePromptEncoder
from napari_sam_lora.parameters.propagation import PropagationConfig

# Least predicted IoU. With 0 to 0.6 the base sam_nano has the same figures in benchmarks/propagation.py on three sets;
# with 0.7 it loses objects of isbi2012_em (IoU .268, not .282). The value for Meta's models has not been measured.
_META_SCORE, _NANO_SCORE = 0.7, 0.5


def least_score(sam: Sam, config: PropagationConfig) -> float:
    """Return the least predicted IoU; by default it depends on the model."""
    if config.min_score is not None:
        return config.min_score
    return _NANO_SCORE if isinstance(sam.prompt_encoder, DensePromptEncoder) else _META_SCORE
