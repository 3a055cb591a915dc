"""Random weights under the names of micro-sam's published decoders."""

from __future__ import annotations

import torch
from torch import Tensor


def random_state(tokens: int = 256, width: int = 4, transposed: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """A state dict with the keys and shapes of ``torch_em.model.UNETR`` without skip connections and encoder."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    state: dict[str, Tensor] = {}

    def convolution(key: str, before: int, after: int, side: int) -> None:
        state[f"{key}.weight"] = normal(after, before, side, side, scale=(2 / (before * side * side)) ** 0.5)
        state[f"{key}.bias"] = normal(after, scale=0.1)

    def enlarge(key: str, before: int, after: int) -> None:
        if transposed:
            state[f"{key}.block.weight"] = normal(before, after, 2, 2, scale=before**-0.5)
            state[f"{key}.block.bias"] = normal(after, scale=0.1)
        else:
            convolution(f"{key}.conv", before, after, 1)

    def block(key: str, before: int, after: int) -> None:
        convolution(f"{key}.block.1", before, after, 3)
        convolution(f"{key}.block.4", after, after, 3)

    features = (8 * width, 4 * width, 2 * width, width)
    widths = (tokens, *features)
    for number in range(4):
        key, before, after = f"deconv{number + 1}.block", widths[number], widths[number + 1]
        enlarge(f"{key}.0", before, after)
        convolution(f"{key}.1.block", after, after, 3)
        state[f"{key}.2.weight"] = 1 + normal(after, scale=0.2)
        state[f"{key}.2.bias"] = normal(after, scale=0.2)
        state[f"{key}.2.running_mean"] = normal(after)
        state[f"{key}.2.running_var"] = normal(after).square() + 0.1
        state[f"{key}.2.num_batches_tracked"] = torch.tensor(1000)
    block("base", tokens, features[0])
    for number in range(3):
        enlarge(f"decoder.samplers.{number}", features[number], features[number + 1])
        block(f"decoder.blocks.{number}", features[number], features[number + 1])
    enlarge("deconv_out", features[3], features[3])
    block("decoder_head", 2 * features[3], features[3])
    convolution("out_conv", features[3], 3, 1)
    return state
