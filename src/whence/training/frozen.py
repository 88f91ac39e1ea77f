"""Maps by a backbone that never learns: each is computed once and kept on disk, for every training
that asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whence.models.backbones.base import Backbone, Features
from whence.runtime import atomic_write

_PART = 512
"""Maps that are written together: what a killed training loses at most."""
_FEW, _MANY = 4, 256
"""Images that go through the backbone together: on a CPU few, whose maps stay in its caches (a
quarter of the time of a whole batch), elsewhere many."""
_KEYS, _MAPS, _TOKENS = ".keys.npy", ".maps.npy", ".tokens.npy"


class _Kept(NamedTuple):
    map: np.ndarray
    """(C, h, w) float16."""
    token: np.ndarray | None
    """(C,) float16 class token, where the backbone has one."""


class FrozenMaps:
    """Features of single images by key, float16, in a folder that several trainings may fill at
    once."""

    def __init__(
        self, folder: Path, backbone: Backbone, *, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        """`dtype` is autocast's; None for float32."""
        self.folder, self.backbone, self.device, self.dtype = folder, backbone, device, dtype
        self.num_at_once = _FEW if device.type == "cpu" else _MANY
        self._maps: dict[str, _Kept] = {}
        self._new: dict[str, _Kept] = {}
        for file in sorted(folder.glob(f"*{_KEYS}")):
            self._read(file.name.removesuffix(_KEYS))

    def __contains__(self, key: str) -> bool:
        """Whether the map is there."""
        return key in self._maps

    def __len__(self) -> int:
        return len(self._maps)

    def features(self, keys: Sequence[str], images: Tensor | None) -> Features:
        """The features of each key, float32; `images` (m, 3, H, W) are of those that are not there,
        each once."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._maps]
        if missing:
            assert images is not None, "a key that is not there comes with its image"
            self._add(missing, images)
        found = [self._maps[key] for key in keys]
        tokens = [one.token for one in found if one.token is not None]
        return Features(
            self._tensor([one.map for one in found]), self._tensor(tokens) if tokens else None
        )

    def keep(self) -> None:
        """Write what is not on disk yet."""
        if not self._new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = np.array(list(self._new), dtype=np.bytes_)
        name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
        arrays = {_MAPS: np.stack([one.map for one in self._new.values()])}
        tokens = [one.token for one in self._new.values() if one.token is not None]
        if tokens:
            arrays[_TOKENS] = np.stack(tokens)
        # The keys come last: a part without them was never finished.
        for ending, values in (*arrays.items(), (_KEYS, keys)):
            with atomic_write(self.folder / f"{name}{ending}") as out:
                np.save(out, values)
        self._new.clear()
        self._read(name)

    def _read(self, name: str) -> None:
        """Map a part into memory."""
        keys = [key.decode() for key in np.load(self.folder / f"{name}{_KEYS}").tolist()]
        maps = np.load(self.folder / f"{name}{_MAPS}", mmap_mode="r")
        file = self.folder / f"{name}{_TOKENS}"
        tokens = np.load(file, mmap_mode="r") if file.is_file() else [None] * len(keys)
        self._maps.update(
            {key: _Kept(map, token) for key, map, token in zip(keys, maps, tokens, strict=True)}
        )

    def _add(self, keys: list[str], images: Tensor) -> None:
        """Compute maps as the backbone makes them of photos to describe."""
        was_training = self.backbone.training
        self.backbone.eval()
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None),
        ):
            for first in range(0, len(keys), self.num_at_once):
                part = slice(first, first + self.num_at_once)
                found: Features = self.backbone(
                    images[part].contiguous(memory_format=torch.channels_last)
                )
                maps = found.map.half().contiguous().cpu().numpy()
                tokens = [None] * len(maps) if found.cls is None else found.cls.half().cpu().numpy()
                for key, map, token in zip(keys[part], maps, tokens, strict=True):
                    self._maps[key] = self._new[key] = _Kept(map, token)
        self.backbone.train(was_training)
        if len(self._new) >= _PART:
            self.keep()

    def _tensor(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device).float()
