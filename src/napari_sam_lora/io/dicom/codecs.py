"""Decode JPEG-compressed DICOM frames with imagecodecs, which is installed for TIFF; pydicom alone cannot."""

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
    """Register this module as a decoder of pydicom; calling it again changes nothing."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  an optional dependency

    for kind in _KINDS:
        with suppress(ValueError):  # already registered
            get_decoder(kind).add_plugin("napari-sam-lora", (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Return whether this module decodes a transfer syntax; called by pydicom."""
    return uid in _KINDS


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode the pixels of one frame; called by pydicom.

    Parameters
    ----------
    source : bytes
        The compressed frame.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Provides the transfer syntax; gets the layout of the decoded pixels.
    """
    import imagecodecs  # noqa: PLC0415

    decode = imagecodecs.jpegls_decode if runner.transfer_syntax in _LS else imagecodecs.jpeg_decode
    decoded = np.ascontiguousarray(decode(source))
    runner.set_option("bits_allocated", decoded.dtype.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return decoded.tobytes()
