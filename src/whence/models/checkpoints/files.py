"""Files of weights as tensors by name, read so that nothing inside them can run: safetensors, and
torch's own files.

What the names mean is `whence.models.checkpoints.keys` and `whence.models.checkpoints.networks`.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from whence.errors import UnreadableWeights, WeightsMismatch

NESTED_UNDER = ("model_state_dict", "state_dict", "model", "extractor")
"""Where training checkpoints of the field keep the weights, the likeliest first."""
_MAGIC_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P"
"""How torch's files began before version 1.6."""
_IGNORED_OBJECTS = (
    "argparse.Namespace",
    "sklearn.decomposition.pca.PCA",
    "sklearn.decomposition._pca.PCA",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int64DType",
)
"""What published checkpoints hold beside weights: recalls, options, a projection. They are passed
over, not made."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Tensors by the names they have in a file, on the CPU."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    """Texts that a safetensors file carries; empty for others."""


class _Ignored:
    """Stands in for an object beside the weights: takes whatever the file says of it and keeps
    nothing."""

    def __new__(cls, *_arguments: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def read_weights(path: str | Path) -> WeightFile:
    """The tensors of a file, of whichever format; nested ones are brought up. Raises
    `UnreadableWeights` with the reason."""
    path = Path(path)
    if _start_of(path)[8:9] == b"{":
        return _read_safetensors(path)
    return WeightFile(path, _named_tensors(path, read_checkpoint(path)), {})


def read_checkpoint(path: str | Path) -> Any:
    """All that one of torch's own files holds, old or new: tensors, and lists and tables of them.
    Raises `UnreadableWeights`."""
    path = Path(path)
    start = _start_of(path)
    if start.startswith(b"PK\x03\x04"):
        return _load_zip(path)
    if start.startswith(_MAGIC_BEFORE_1_6):
        return _load_torch(path, is_mapped=False)
    if start.startswith(b"\x80"):
        raise UnreadableWeights(
            path, "it is a pickle that torch did not write; nothing in it was run"
        )
    raise UnreadableWeights(path, "it is neither a safetensors file nor one of torch")


def _start_of(path: Path) -> bytes:
    """The first bytes of a file that is one. Raises `UnreadableWeights`."""
    if path.exists() and not path.is_file():
        raise UnreadableWeights(path, "it is no file")
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UnreadableWeights(path, error.strerror or str(error)) from None
    if not start:
        raise UnreadableWeights(path, "the file is empty")
    return start


def fill_module(
    module: nn.Module,
    path: str | Path,
    *,
    what: str,
    rename: Callable[[str], str | None] = str,
    made_here: tuple[str, ...] = (),
) -> None:
    """Fill a module from a file of weights: every tensor, none left over or missing, after an
    optional `module.`.

    `rename` brings the file's names to the module's, None for what the module does without; buffers
    in `made_here` have their values already and may be missing. Raises `UnreadableWeights`, and
    `WeightsMismatch` that lists what does not fit; `what` names the module in it.
    """
    tensors = read_weights(path).tensors.items()
    named = ((rename(re.sub(r"^(module\.)+", "", name)), tensor) for name, tensor in tensors)
    found = {name: tensor for name, tensor in named if name is not None}
    own = module.state_dict()
    misshapen = [
        f"{name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in found.items()
        if name in own and tensor.shape != own[name].shape
    ]
    unknown = [name for name in found if name not in own]
    missing = [name for name in own if name not in found and name not in made_here]
    if unknown or missing or misshapen:
        raise WeightsMismatch(path, what, unknown=unknown, missing=missing, misshapen=misshapen)
    broken = [name for name, tensor in found.items() if not tensor.isfinite().all()]
    if broken:
        raise UnreadableWeights(path, f"{broken[0]} holds values that are no finite numbers")
    module.load_state_dict({**own, **found})


def read_metadata(path: str | Path) -> Mapping[str, str]:
    """The texts that a safetensors file carries; empty for other files. Raises `UnreadableWeights`
    where it is broken."""
    with open(path, "rb") as file:
        if file.read(16)[8:9] != b"{":
            return {}
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except safetensors.SafetensorError as error:
        raise UnreadableWeights(path, f"broken safetensors file ({error})") from None


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            return WeightFile(path, tensors, opened.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError, RuntimeError) as error:
        raise UnreadableWeights(path, f"broken safetensors file ({error})") from None


def _load_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnreadableWeights(path, f"broken or cut short ({error})") from None
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise UnreadableWeights(path, "it is a zip archive, but not one of torch")
    # torch never compresses, so a file that does would grow in memory beyond its size.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > path.stat().st_size
    ):
        raise UnreadableWeights(
            path, "its parts are larger than the file; torch writes no such files"
        )
    return _load_torch(path, is_mapped=True)


def _load_torch(path: Path, *, is_mapped: bool) -> Any:
    stand_ins: list[Any] = [(_Ignored, name) for name in _IGNORED_OBJECTS]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except Exception as error:
        # A hostile file can make the reader fail with anything.
        raise UnreadableWeights(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if found := re.search(
        r"GLOBAL (\S+)|(?:call|blocklisted|function) [`']?([\w.]+\.[\w.]+)", text
    ):
        name = found[1] or found[2]
        return f"it asks for {name}, which is no part of weights; nothing was run"
    if "TorchScript" in text:
        return "it is a TorchScript program, not weights"
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    if "Weights only load failed" in first:
        cause = re.search(r"[Pp]lease file an issue.*?: (.*)", text)
        first = cause[1] if cause else "it holds more than weights"
    return f"broken, cut short or no file of torch ({first[:200]})"


def _named_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors by name; a tensor alone has the name ""."""
    if isinstance(content, Tensor):
        return {"": content}
    for _ in range(3):
        if not isinstance(content, Mapping) or any(
            isinstance(value, Tensor) for value in content.values()
        ):
            break
        content = next((content[name] for name in NESTED_UNDER if name in content), None)
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise UnreadableWeights(
            path, f"it holds no weights, neither at the top nor under {', '.join(NESTED_UNDER)}"
        )
    return tensors


def weights_digest(module: nn.Module) -> str:
    """12 hexadecimal digits that stand for a module's weights."""
    hashed = hashlib.blake2b(digest_size=6)
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
