"""Registry of named models: source, licence, and hash of the download."""

from __future__ import annotations

from dataclasses import dataclass

_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_MICRO_SAM = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
# 38 or 44 according to the number of parameters in the two layouts; the exact sizes are not published.
_DECODER_MEGABYTES = 40


@dataclass(frozen=True)
class ModelInfo:
    """Description of a named checkpoint, available before it is loaded.

    Attributes
    ----------
    name : str
    family : str
        ``nano``, ``vit_t``, ``vit_b``, ``vit_l`` or ``vit_h``.
    licence : str
        SPDX name.
    source : str
        Project or institution that trained it.
    description : str
        One line for the user.
    megabytes : int
        Size of the file.
    asset : str, optional
        File name in the package's assets, for a bundled model.
    url : str, optional
        Where the file can be downloaded.
    digest : str, optional
        Hash of the file, as ``algorithm:hexadecimal digits``.
    head_asset, head_digest : str, optional
        File name and hash of the dense head that comes with a bundled model.
    decoder : ModelInfo, optional
        File of the decoder that finds objects without prompts, for a model that was published with one.
    """

    name: str
    family: str
    licence: str
    source: str
    description: str
    megabytes: int
    asset: str | None = None
    url: str | None = None
    digest: str | None = None
    head_asset: str | None = None
    head_digest: str | None = None
    decoder: ModelInfo | None = None

    @property
    def file_name(self) -> str:
        """Name of the file in the cache directory."""
        ending = "safetensors" if self.asset else str(self.url).rsplit(".", 1)[-1]
        return f"{self.name}.{ending}"


def _meta(name: str, family: str, size: str, megabytes: int, digest: str, quality: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        family=family,
        licence="Apache-2.0",
        source="Meta AI, Segment Anything",
        description=f"General model, {size}; {quality}.",
        megabytes=megabytes,
        url=_META
        + {"vit_b": "sam_vit_b_01ec64", "vit_l": "sam_vit_l_0b3195", "vit_h": "sam_vit_h_4b8939"}[family]
        + ".pth",
        digest=f"xxh128:{digest}",
    )


def _micro_sam(name: str, family: str, place: str, digest: str, decoder_digest: str, objects: str) -> ModelInfo:
    """Describe a model of micro-sam and its decoder; addresses and hashes are those of ``micro_sam/util.py``."""
    decoder = ModelInfo(
        name=f"{name}_decoder",
        family=family,
        licence="CC-BY-4.0",
        source="micro-sam, Segment Anything for Microscopy",
        description=f"Decoder of {name}.",
        megabytes=_DECODER_MEGABYTES,
        url=f"{_MICRO_SAM}{place}/files/{family}_decoder.pt",
        digest=f"xxh128:{decoder_digest}",
    )
    return ModelInfo(
        name=name,
        family=family,
        licence="CC-BY-4.0",
        source="micro-sam, Segment Anything for Microscopy",
        description=f"For {objects}.",
        megabytes={"vit_t": 40, "vit_b": 375, "vit_l": 1250}[family],
        url=f"{_MICRO_SAM}{place}/files/{family}.pt",
        digest=f"xxh128:{digest}",
        decoder=decoder,
    )


_ALL = (
    ModelInfo(
        name="sam_nano",
        family="nano",
        licence="BSD-3-Clause",
        source="comes with this package",
        description="Small general model; fast on any laptop, works offline.",
        megabytes=5,
        asset="sam_nano.safetensors",
        digest="xxh128:0682d9516411680f700c8df8b02910dc",
        head_asset="sam_nano_head.safetensors",
        head_digest="xxh128:e1a3684220445bfffabaf910a1586505",
    ),
    ModelInfo(
        name="vit_t",
        family="vit_t",
        licence="Apache-2.0",
        source="MobileSAM, Kyung Hee University",
        description="General model for laptops: encodes about six times faster than vit_b on a CPU.",
        megabytes=40,
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        digest="xxh128:8eadbc88aeb9d8c7e0b4b60c3db48bd0",
    ),
    _meta("vit_b", "vit_b", "base size", 375, "6923c33df3637b6a922d7682bfc9a86b", "6 to 9 s a plane on a laptop CPU"),
    _meta("vit_l", "vit_l", "large", 1250, "a82beb3c660661e3dd38d999cc860e9a", "better, wants a GPU"),
    _meta("vit_h", "vit_h", "huge", 2560, "97698fac30bd929c2e6d8d8cc15933c2", "best, needs a GPU"),
    _micro_sam(
        "vit_t_lm",
        "vit_t",
        "faithful-chicken/1.1",
        "72ec5074774761a6e5c05a08942f981e",
        "3e914a5f397b0312cdd36813031f8823",
        "cells and nuclei in light microscopy, for laptops",
    ),
    _micro_sam(
        "vit_b_lm",
        "vit_b",
        "diplomatic-bug/1.2",
        "fe9252a29f3f4ea53c15a06de471e186",
        "708b15ac620e235f90bb38612c4929ba",
        "cells and nuclei in light microscopy, base size",
    ),
    _micro_sam(
        "vit_l_lm",
        "vit_l",
        "idealistic-rat/1.2",
        "017f20677997d628426dec80a8018f9d",
        "2faeafa03819dfe03e7c46a44aaac64a",
        "cells and nuclei in light microscopy, large",
    ),
    _micro_sam(
        "vit_t_em_organelles",
        "vit_t",
        "greedy-whale/1",
        "253474720c497cce605e57c9b1d18fd9",
        "8f897c7bb93174a4d1638827c4dd6f44",
        "mitochondria and nuclei in electron microscopy, for laptops",
    ),
    _micro_sam(
        "vit_b_em_organelles",
        "vit_b",
        "noisy-ox/1.2",
        "f3bf2ed83d691456bae2c3f9a05fb438",
        "bb6398956a6b0132c26b631c14f95ce2",
        "mitochondria and nuclei in electron microscopy, base size",
    ),
    _micro_sam(
        "vit_l_em_organelles",
        "vit_l",
        "humorous-crab/1.2",
        "810b084b6e51acdbf760a993d8619f2d",
        "334877640bfdaaabce533e3252a17294",
        "mitochondria and nuclei in electron microscopy, large",
    ),
)
MODELS: dict[str, ModelInfo] = {info.name: info for info in _ALL}
