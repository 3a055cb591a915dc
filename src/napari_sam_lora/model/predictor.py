"""Encode planes to embeddings, and decode embeddings and prompts to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import ArrayLike, NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import Prepared, Preprocessing, prepare, resized_shape
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.embeddings import Embedding, EmbeddingCache
from napari_sam_lora.model.encoder import preprocess
from napari_sam_lora.prompts import ObjectPrompts, Prompts, SamPrompts, to_sam

Multimask = bool | Literal["auto"]
OBJECTS_AT_ONCE = 32
_DRAWN_LOGIT = 6.0  # logit inside a drawn mask: a probability of 0.998


@dataclass(frozen=True, eq=False)
class Result:
    """Masks of n objects.

    Attributes
    ----------
    masks : bool (n, y, x)
    scores : float32 (n,)
        Predicted IoU of each mask.
    logits : float32 (n, h, w)
        Low-resolution logits of the masks; they can be used as `Prompts.masks` of the next round.
    candidates : bool (n, 3, y, x)
        SAM's three masks for an ambiguous prompt, such as part, object and group.
    candidate_scores : float32 (n, 3)
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    candidates: NDArray[np.bool_]
    candidate_scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Predictor:
    """One SAM with fixed weights; its only state is the shared cache of embeddings.

    Attributes
    ----------
    sam : Sam
        In evaluation mode.
    encoder_key : str
        Identifies the weights of the image encoder.
    preprocessing : Preprocessing
    cache : EmbeddingCache
    dense : DenseModel, optional
        Finds objects without prompts.
    dense_base : Predictor, optional
        The predictor whose embeddings the dense head reads, if not this one's: that of the base model, where an adapter
        has no head of its own.
    """

    sam: Sam
    encoder_key: str
    preprocessing: Preprocessing
    cache: EmbeddingCache
    dense: DenseModel | None = None
    dense_base: Predictor | None = None

    @property
    def input_size(self) -> int:
        """Side of the square model input in pixels."""
        return int(self.sam.image_encoder.img_size)

    def encode(self, image: ArrayLike) -> Embedding:
        """Encode a plane (y, x) or (y, x, c) of any dtype; see `prepare` for what is accepted."""
        return self.encode_prepared(prepare(image, self.input_size, self.preprocessing))

    @torch.no_grad()
    def encode_prepared(self, prepared: Prepared) -> Embedding:
        """Encode prepared pixels, or return their embedding from the cache."""
        return self.cache.get(prepared, self.encoder_key, lambda: self._run_encoder(prepared))

    def segment(self, embedding: Embedding, prompts: Prompts, multimask: Multimask = "auto") -> Result:
        """Segment the prompted objects.

        Parameters
        ----------
        embedding : Embedding
            From `encode`. If the encoder weights have changed since, the plane is encoded again.
        prompts : Prompts
        multimask : bool or "auto"
            True: the best of the three candidates by predicted IoU. False: SAM's single mask. "auto": the candidates
            for objects whose only prompt is one point, the single mask for the rest.

        Returns
        -------
        Result

        Raises
        ------
        InputError
            If drawn masks do not have the size of the plane, or the plane was encoded at another input size.
        """
        return self.upscale(embedding.shape, *self.decode(embedding, prompts), prompts, multimask)

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits (n, 4, h, w), the single mask first, and their predicted IoU (n, 4)."""
        embedding = self._present(embedding)
        logits: list[Tensor | None] = [None] * len(prompts)
        scores: list[Tensor | None] = [None] * len(prompts)
        for group in prompts.like_shaped():
            for rows in np.array_split(group, -(-len(group) // OBJECTS_AT_ONCE)):
                chunk = decode_prompts(self.sam, embedding.tensor, embedding.prepared, prompts[rows])
                for row, *values in zip(rows, *chunk, strict=True):
                    logits[row], scores[row] = values
        return torch.stack([row for row in logits if row is not None]), torch.stack(
            [row for row in scores if row is not None]
        )

    @torch.no_grad()
    def decode_objects(self, embedding: Embedding, objects: Sequence[ObjectPrompts]) -> tuple[Tensor, Tensor]:
        """Decode objects with the same kinds of prompts (see `ObjectPrompts.kinds`) at once; returns as `decode`."""
        embedding = self._present(embedding)
        prepared = embedding.prepared
        arrays = to_sam(objects, prepared.shape, prepared.resized_shape)
        return _decode(self.sam, embedding.tensor, prepared, arrays)

    def upscale(
        self, shape: tuple[int, int], logits: Tensor, scores: Tensor, prompts: Prompts, multimask: Multimask
    ) -> Result:
        """Choose among the decoded masks and scale them to the plane, as `Sam.postprocess_masks` does."""
        uses_candidates = [
            prompts.is_lone_point(row) if multimask == "auto" else bool(multimask) for row in range(len(prompts))
        ]
        best = 1 + scores[:, 1:].argmax(1)
        chosen = torch.where(torch.tensor(uses_candidates, device=best.device), best, 0)
        rows = torch.arange(len(chosen), device=best.device)
        masks = np.concatenate(
            [self.to_plane(chunk, shape).cpu().numpy() for chunk in logits.split(OBJECTS_AT_ONCE // 4)]
        )
        return Result(
            masks=masks[rows.cpu().numpy(), chosen.cpu().numpy()],
            scores=scores[rows, chosen].float().cpu().numpy(),
            logits=logits[rows, chosen].float().cpu().numpy(),
            candidates=masks[:, 1:],
            candidate_scores=scores[:, 1:].float().cpu().numpy(),
        )

    @torch.no_grad()
    def to_plane(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        """Scale low-resolution logits (n, m, h, w) to masks bool (n, m, y, x) of a plane."""
        scaled = self.sam.postprocess_masks(logits, resized_shape(shape, self.input_size), shape)
        return scaled > self.sam.mask_threshold

    def _present(self, embedding: Embedding) -> Embedding:
        """Return an embedding, encoded again if the weights have changed since."""
        if embedding.prepared.input_size != self.input_size:
            raise InputError(
                f"This plane was encoded at {embedding.prepared.input_size} pixels, the model now runs at "
                f"{self.input_size}: encode it again.",
                code="embedding-of-another-input-size",
            )
        return embedding if embedding.weights_key == self.encoder_key else self.encode_prepared(embedding.prepared)

    def _run_encoder(self, prepared: Prepared) -> Tensor:
        return self.sam.image_encoder(preprocess(self.sam, torch.from_numpy(np.ascontiguousarray(prepared.pixels))))


def decode_prompts(sam: Sam, embedding: Tensor, prepared: Prepared, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Decode like-shaped prompts, with gradients.

    Parameters
    ----------
    embedding : Tensor
        (1, c, h, w).
    prepared : Prepared
        The pixels behind the embedding, for the scale of the prompts.
    prompts : Prompts
        In pixels of the plane, see `Prompts.like_shaped`.

    Returns
    -------
    logits : Tensor
        (n, 4, 4 h, 4 w): the single mask first, then the three candidates.
    scores : Tensor
        Predicted IoU (n, 4).
    """
    return _decode(sam, embedding, prepared, to_sam(prompts, prepared.shape, prepared.resized_shape))


def _decode(sam: Sam, embedding: Tensor, prepared: Prepared, arrays: SamPrompts) -> tuple[Tensor, Tensor]:
    device = embedding.device
    points = None
    if arrays.coordinates is not None and arrays.labels is not None:
        points = (torch.from_numpy(arrays.coordinates).to(device), torch.from_numpy(arrays.labels).to(device))
    boxes = None if arrays.boxes is None else torch.from_numpy(arrays.boxes).to(device)
    masks = None if arrays.masks is None else _mask_input(sam, arrays.masks, prepared).to(device)
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    return sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )


def _mask_input(sam: Sam, masks: NDArray[Any], prepared: Prepared) -> Tensor:
    """Return mask prompts as SAM's low-resolution logits float32 (n, 1, h, w)."""
    size = tuple(sam.prompt_encoder.mask_input_size)
    if masks.dtype != bool:
        if masks.shape[1:] != size:
            raise InputError(
                f"Logits of this model are {size}, not {masks.shape[1:]}; drawn masks must be bool.",
                code="logits-of-another-size",
            )
        return torch.from_numpy(np.asarray(masks, np.float32))[:, None]
    if masks.shape[1:] != prepared.shape:
        raise InputError(
            f"Drawn masks must be as large as the plane {prepared.shape}, not {masks.shape[1:]}.",
            code="mask-does-not-fit",
        )
    drawn = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    inside = functional.interpolate(drawn, prepared.resized_shape, mode="bilinear", align_corners=False, antialias=True)
    height, width = prepared.resized_shape
    padded = functional.pad(inside, (0, prepared.input_size - width, 0, prepared.input_size - height))
    share = functional.adaptive_avg_pool2d(padded, size)
    return (2 * share - 1) * _DRAWN_LOGIT
