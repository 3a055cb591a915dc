"""JPEG kinds of DICOM that pydicom needs another library for: imagecodecs, which reads TIFF here too, decodes them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

_EXTENDED = "1.2.840.10008.1.2.4.51"
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_KINDS = (_EXTENDED, *_LOSSLESS, *_LS)
DECODER_DEPENDENCIES = dict.fromkeys(_KINDS, ("imagecodecs",))


def register() -> None:
    """Let pydicom use this module; calling it again changes nothing."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  an optional dependency

    for kind in _KINDS:
        with suppress(ValueError):  # it is there already
            get_decoder(kind).add_plugin("napari-sam-lora", (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Whether a transfer syntax is decoded here; pydicom asks it."""
    return uid in _KINDS


def decode_frame(source: bytes, runner: Any) -> bytes:
    """The pixels of one frame; pydicom calls it.

    Parameters
    ----------
    source : bytes
        The compressed frame.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Knows the file, and is told how the pixels lie.
    """
    import imagecodecs  # noqa: PLC0415

    decode = imagecodecs.jpegls_decode if runner.transfer_syntax in _LS else imagecodecs.jpeg_decode
    decoded = np.ascontiguousarray(decode(source))
    runner.set_option("bits_allocated", decoded.dtype.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return decoded.tobytes()
