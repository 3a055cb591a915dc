"""Export a model with a merged adapter to ONNX: image encoder, and mask decoder as in segment-anything's export."""

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
from napari_sam_lora.io.shared.existing_files import check_replaceable
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.lora.merge import merge
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.families.nano import DensePromptEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

Component = Literal["encoder", "decoder"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
_OPSET = 17
# ONNX files are protocol buffers, which are limited to 2 GiB; the encoder of ViT-H is larger.
_LARGEST_BYTES = 2**31 - 2**20
# Largest difference between onnxruntime and torch, relative to the largest value.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OnnxFile:
    """A file that was written.

    Attributes
    ----------
    component : str
        "encoder" or "decoder".
    path : Path
    difference : float or None
        Largest difference between onnxruntime and torch relative to the largest value; None if it was not checked,
        because onnxruntime is not installed.
    """

    component: Component
    path: Path
    difference: float | None


def export_onnx(
    folder: str | Path,
    loaded: LoadedModel,
    adapter: Adapter | None = None,
    *,
    name: str = "",
    components: Sequence[Component] = COMPONENTS,
    overwrite: bool = False,
) -> list[OnnxFile]:
    """Write ``NAME_encoder.onnx`` and ``NAME_decoder.onnx``, each atomically, and compare them with torch.

    The encoder maps ``image``, float32 (1, 3, s, s), normalised and padded as for SAM, to ``image_embeddings``
    (1, c, h, w). The decoder is `segment_anything.utils.onnx.SamOnnxModel` with its usual names: ``image_embeddings``,
    ``point_coords``, ``point_labels`` (2 and 3 for the corners of a box), ``mask_input``, ``has_mask_input``,
    ``orig_im_size`` to ``masks``, ``iou_predictions``, ``low_res_masks``.

    Parameters
    ----------
    folder : path-like
    loaded : LoadedModel
        Not changed.
    adapter : Adapter, optional
        Merged into the weights; its input size is used.
    name : str
        Beginning of the file names; by default the name of the model.
    components : sequence of str
        "encoder", "decoder".
    overwrite : bool
        Whether files that exist may be replaced.

    Raises
    ------
    InputError
        If onnx is not installed, a component cannot be exported, a file exists, or the results differ from torch's.
    AdapterError
        If the adapter belongs to another model.
    """
    _require_onnx()
    if not components or not set(components) <= set(COMPONENTS):
        raise InputError(
            f"Choose from {', '.join(COMPONENTS)}, not {', '.join(components) or 'nothing'}.", code="unknown-component"
        )
    sam = loaded.sam if adapter is None else adapter.apply(loaded.sam, loaded.name, loaded.weights_hash)
    if adapter is not None:
        merge(sam)  # the adapter's own copy of the modules: the base is not changed
    stem = name or Path(loaded.name).stem
    targets = {component: Path(folder) / f"{stem}_{component}.onnx" for component in components}
    if "decoder" in components and isinstance(sam.prompt_encoder, DensePromptEncoder):
        raise InputError(
            f"The decoder of {loaded.name} is not SAM's, so other programs cannot use it: export the encoder only.",
            code="decoder-not-exportable",
        )
    encoder_bytes = sum(value.nbytes for value in sam.image_encoder.state_dict().values())
    if "encoder" in components and encoder_bytes > _LARGEST_BYTES:
        raise InputError(
            f"The encoder of {loaded.name} is larger than an ONNX file can be (2 GiB): export the decoder only.",
            code="encoder-too-large",
        )
    check_replaceable(targets.values(), overwrite)
    graphs = {"encoder": _encoder, "decoder": _decoder}
    return [_write(component, target, graphs[component](sam)) for component, target in targets.items()]


@dataclass(frozen=True, eq=False)
class _Graph:
    """A module to trace, with example inputs; ``dynamic`` names the axes of inputs that vary in length."""

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
    inputs = {name: value.to(sam.device) for name, value in inputs.items()}
    return _Graph(module.eval(), inputs, ("masks", "iou_predictions", "low_res_masks"), dynamic)


def _write(component: Component, target: Path, graph: _Graph) -> OnnxFile:
    with atomic_path(target) as temporary, _without_warnings():
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
                f"The results of the exported {component} differ from the model's (by {difference:.1e}), so the file "
                "is not kept: update torch and onnx.",
                code="onnx-differs",
            )
    return OnnxFile(component, target, difference)


def _compare(path: Path, graph: _Graph) -> float | None:
    """Return the largest difference between onnxruntime and torch, relative to the largest value of each output.

    None if onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415  an optional dependency
    except ImportError:
        return None
    with torch.no_grad():
        expected = graph.module(*graph.inputs.values())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.cpu().numpy() for name, value in graph.inputs.items()})
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    pairs = [(result, tensor.cpu().numpy()) for result, tensor in zip(found, expected, strict=True)]
    if any(result.shape != reference.shape for result, reference in pairs):
        return float("inf")
    return max(float(np.abs(one - two).max() / max(1e-6, np.abs(two).max())) for one, two in pairs)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401, PLC0415  an optional dependency
    except ImportError as error:
        raise InputError(
            "ONNX files need onnx: pip install 'napari-sam-lora[onnx]'.", code="package-missing"
        ) from error


@contextmanager
def _without_warnings() -> Iterator[Any]:
    """Ignore warnings: tracing warns of every shape that becomes a constant, which is intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
