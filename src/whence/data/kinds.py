"""Endings of picture files: which are read, which with an extra, and which by nothing that Whence
knows."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

IMAGE_SUFFIXES = frozenset(
    (
        *(
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".png",
            ".webp",
            ".tif",
            ".tiff",
            ".bmp",
            ".gif",
            ".avif",
        ),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf", ".heic", ".heif", ".hif"),
    )
)
"""Endings by which a folder scan knows photos, in lower case."""
RAW_SUFFIXES = frozenset(
    (
        *(
            ".dng",
            ".cr2",
            ".cr3",
            ".crw",
            ".nef",
            ".nrw",
            ".arw",
            ".srf",
            ".sr2",
            ".raf",
            ".orf",
            ".rw2",
            ".rwl",
            ".pef",
            ".srw",
        ),
        *(
            ".3fr",
            ".fff",
            ".iiq",
            ".kdc",
            ".dcr",
            ".mrw",
            ".mef",
            ".mos",
            ".erf",
            ".x3f",
            ".gpr",
            ".raw",
        ),
    )
)
"""Endings of raw photos, which the extra `raw` reads."""
_HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
_OTHER_PICTURES = frozenset(
    (".jxl", ".psd", ".psb", ".exr", ".hdr", ".jxr", ".wdp", ".bpg", ".xcf", ".insp")
)


@lru_cache(maxsize=1)
def has_raw_decoder() -> bool:
    """Whether the extra `raw` is installed."""
    return find_spec("rawpy") is not None


@lru_cache(maxsize=1)
def has_heic_decoder() -> bool:
    """Whether the extra `heic` is installed."""
    return find_spec("pillow_heif") is not None


def is_photo(path: str) -> bool:
    """Whether a file is a photo that can be read here, by its ending."""
    suffix = os.path.splitext(path)[1].lower()
    return (suffix in IMAGE_SUFFIXES or suffix in RAW_SUFFIXES) and not missing_reader(path)


def missing_reader(path: str) -> str:
    """The reader that a picture file lacks: "extra raw", "extra heic", "no reader"; empty for
    photos and for what is no picture."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in RAW_SUFFIXES and not has_raw_decoder():
        return "extra raw"
    if suffix in _HEIC_SUFFIXES and not has_heic_decoder():
        return "extra heic"
    return "no reader" if suffix in _OTHER_PICTURES else ""
