"""A model, with an adapter folded in, as ONNX: image encoder, and mask decoder as segment-anything exports it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.output import check_free
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.lora.merge import merge
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.families.nano import DensePromptEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = Literal["encoder", "decoder"]
PARTS: tuple[Part, ...] = get_args(Part)
_OPSET = 17
# Protocol buffers, which ONNX files are, end here; ViT-H alone is larger.
_LARGEST_BYTES = 2**31 - 2**20
# Largest difference between onnxruntime and torch, relative to the largest value.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Attributes
    ----------
    part : str
        "encoder" or "decoder".
    path : Path
    difference : float or None
        Largest difference between onnxruntime and torch relative to the largest value; None if it was not checked,
        because onnxruntime is not installed.
    """

    part: Part
    path: Path
    difference: float | None


def export_onnx(
    folder: str | Path,
    loaded: LoadedModel,
    adapter: Adapter | None = None,
    *,
    name: str = "",
    parts: Sequence[Part] = PARTS,
    overwrite: bool = False,
) -> list[OnnxFile]:
    """Write ``NAME_encoder.onnx`` and ``NAME_decoder.onnx``, each atomically, and compare them with torch.

    The encoder maps ``image``, float32 (1, 3, s, s), normalised and padded as SAM's, to ``image_embeddings``
    (1, c, h, w). The decoder is `segment_anything.utils.onnx.SamOnnxModel` with its usual names: ``image_embeddings``,
    ``point_coords``, ``point_labels`` (2 and 3 for the corners of a box), ``mask_input``, ``has_mask_input``,
    ``orig_im_size`` to ``masks``, ``iou_predictions``, ``low_res_masks``.

    Parameters
    ----------
    folder : path-like
    loaded : LoadedModel
        Not changed.
    adapter : Adapter, optional
        Folded into the weights; the input size is that of the adapter.
    name : str
        By default that of the model.
    parts : sequence of str
        "encoder", "decoder".
    overwrite : bool
        Whether files that exist may be replaced.

    Raises
    ------
    InputError
        If onnx is not installed, a part cannot be exported, a file exists, or ONNX computes something else than torch.
    AdapterError
        If the adapter belongs to another model.
    """
    _need_onnx()
    if not parts or not set(parts) <= set(PARTS):
        raise InputError(f"Parts are {', '.join(PARTS)}, not {', '.join(parts)}.")
    sam = loaded.sam if adapter is None else adapter.apply(loaded.sam, loaded.name, loaded.weights_hash)
    if adapter is not None:
        merge(sam)  # a tree of its own: the base is not changed
    stem = name or Path(loaded.name).stem
    targets = {part: Path(folder) / f"{stem}_{part}.onnx" for part in parts}
    if "decoder" in parts and isinstance(sam.prompt_encoder, DensePromptEncoder):
        raise InputError(
            f"The decoder of {loaded.name} is not SAM's, so no program could use it: export the encoder only."
        )
    if "encoder" in parts and sum(value.nbytes for value in sam.image_encoder.state_dict().values()) > _LARGEST_BYTES:
        raise InputError(
            f"The encoder of {loaded.name} is larger than an ONNX file can be (2 GiB): export the decoder only."
        )
    check_free(targets.values(), overwrite)
    makers = {"encoder": _encoder, "decoder": _decoder}
    return [_write(part, target, makers[part](sam)) for part, target in targets.items()]


@dataclass(frozen=True, eq=False)
class _Graph:
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]


def _encoder(sam: Sam) -> _Graph:
    size = int(sam.image_encoder.img_size)
    inputs = {"image": torch.randn(1, 3, size, size, device=sam.device)}
    return _Graph(sam.image_encoder, inputs, ("image_embeddings",), {})


def _decoder(sam: Sam) -> _Graph:
    width = sam.prompt_encoder.embed_dim
    height, across = sam.prompt_encoder.image_embedding_size
    size = float(sam.image_encoder.img_size)
    inputs = {
        "image_embeddings": torch.randn(1, width, height, across),
        "point_coords": torch.rand(1, 5, 2) * size,
        "point_labels": torch.tensor([[0.0, 1.0, 1.0, 2.0, 3.0]]),
        "mask_input": torch.randn(1, 1, 4 * height, 4 * across),
        "has_mask_input": torch.tensor([1.0]),
        "orig_im_size": torch.tensor([0.75 * size, size]).round(),
    }
    dynamic = {name: {1: "num_points"} for name in ("point_coords", "point_labels")}
    module = SamOnnxModel(sam, return_single_mask=False)
    placed = {name: value.to(sam.device) for name, value in inputs.items()}
    return _Graph(module.eval(), placed, ("masks", "iou_predictions", "low_res_masks"), dynamic)


def _write(part: Part, target: Path, graph: _Graph) -> OnnxFile:
    with atomic_path(target) as temporary, _quiet():
        torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            str(temporary),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=graph.dynamic,
            opset_version=_OPSET,
            dynamo=False,
        )
        difference = _compare(temporary, graph)
        if difference is not None and not difference <= _TOLERANCE:
            raise InputError(
                f"The exported {part} computes something else than the model (by {difference:.1e}) and was not kept: "
                "update torch and onnx."
            )
    return OnnxFile(part, target, difference)


def _compare(path: Path, graph: _Graph) -> float | None:
    """Largest difference of any output between onnxruntime and torch, relative to its largest value."""
    try:
        import onnxruntime  # noqa: PLC0415  an optional dependency
    except ImportError:
        return None
    with torch.no_grad():
        wanted = graph.module(*graph.inputs.values())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.cpu().numpy() for name, value in graph.inputs.items()})
    wanted = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    pairs = [(one, two.cpu().numpy()) for one, two in zip(found, wanted, strict=True)]
    if any(one.shape != two.shape for one, two in pairs):
        return float("inf")
    return max(float(np.abs(one - two).max() / max(1e-6, np.abs(two).max())) for one, two in pairs)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401, PLC0415  an optional dependency
    except ImportError as error:
        raise InputError("ONNX files need onnx: pip install 'napari-sam-lora[onnx]'.") from error


@contextmanager
def _quiet() -> Iterator[Any]:
    """Tracing warns of every shape that becomes a constant, which is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
