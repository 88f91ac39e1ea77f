"""The exceptions of Whence, one tree.

    WhenceError
    ├── InputError               what was given cannot be used
    │   ├── UnreadableImage      a photo's pixels cannot be decoded (names the path)
    │   ├── UnreadableVideo      a video cannot be opened (names the path)
    │   ├── UnreadableTable      a table, sidecar or list is broken (names file and line)
    │   ├── InvalidPoint         a coordinate that is not on Earth
    │   ├── NoPhotos             nothing to work on
    │   ├── UnknownName          no such model, index, benchmark or field; lists the nearest ones
    │   └── BadOption            an option's value is outside what it may be
    ├── UnwritableFile           a result cannot be written (also an OSError)
    ├── ModelError
    │   ├── NotFitted            a fitted descriptor was asked to describe before `fit`
    │   ├── EngineRefused        a faster engine's descriptors lie too far from the network's own
    │   ├── CalibrationMismatch  the calibration is of other settings, or there is none
    │   ├── MissingExtra         an optional package is needed (says which extra installs it)
    │   ├── MissingWeights       a file of weights is not there; says which goes where
    │   ├── DownloadFailed       a file could not be fetched, or is another one
    │   ├── UnreadableWeights    a file of weights is broken, or holds more than weights
    │   └── WeightsMismatch      weights of another network: lists the keys that differ
    └── StoreError               the database folder (always names it)
        ├── NotAStore            the folder is not a Whence database
        ├── CorruptStore         a file is missing, truncated or does not match the manifest
        ├── StoreVersion         written by a format this version does not read
        ├── StoreLocked          another process is writing to it
        ├── StoreFull            the disk refused the write; the previous state is intact
        └── CardMismatch         made with another model, or fitted on other photos

Beside it stands `Stopped`, a `KeyboardInterrupt` that says what was kept when the user stopped a
run.

Every message names the file and, where there is one, the fix.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

DISTRIBUTION = "whence-vpr"
"""What the package index and installers call the package; it is imported, and the command is
called, `whence`."""
EXIT_STOPPED = 130
"""Exit code of a command that the user stopped."""


class WhenceError(Exception):
    """Base of all errors Whence raises on purpose."""


class Stopped(KeyboardInterrupt):
    """The user stopped a run (Ctrl-C); says what was done and is kept. `except Exception` lets it
    pass, as any interrupt."""


class InputError(WhenceError):
    """What was given cannot be used."""


class UnreadableImage(InputError):
    """A photo cannot be decoded; carries `path` and `reason`."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read image {str(path)!r}: {reason}")
        self.path = str(path)
        self.reason = reason


class UnreadableVideo(InputError):
    """A video cannot be opened, or none of its frames decoded; carries `path` and `reason`."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read video {str(path)!r}: {reason}")
        self.path = str(path)
        self.reason = reason


class UnreadableTable(InputError):
    """A table of positions or a list of files is broken; names the file and, if known, the line."""

    def __init__(self, path: str | Path, reason: str, *, line: int | None = None) -> None:
        where = f"{str(path)!r}" if line is None else f"{str(path)!r}, line {line}"
        super().__init__(f"cannot read {where}: {reason}")
        self.path = str(path)
        self.reason = reason
        self.line = line


class InvalidPoint(InputError):
    """A coordinate that is not on Earth."""


class NoPhotos(InputError):
    """There is nothing to work on."""


NUM_NEAREST = 3
"""Names that the error for an unknown one lists."""


class UnknownName(InputError):
    """No such name; the message lists the nearest ones."""

    def __init__(self, kind: str, name: str, names: Iterable[str]) -> None:
        near = sorted(sorted(names), key=lambda one: _distance(name, one))[:NUM_NEAREST]
        hint = f"did you mean {_listed(near)}?" if near else "there is none"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self.kind = kind
        self.name = name
        self.nearest = tuple(near)


def _distance(name: str, other: str) -> tuple[float, int, str]:
    """How far a known name is from what was asked for; names that hold it, or that it holds, come
    first.

    Of names that share as much the one comes first whose other letters and digits are nearer: 5 and
    7 lie nearer to 6 than 2 does.
    """
    name, plain = name.lower(), other.lower()
    holds = bool(name) and (name in plain or plain in name)
    alike = difflib.SequenceMatcher(None, name, plain).ratio()
    gap = sum(abs(ord(a) - ord(b)) for a, b in zip(name, plain, strict=False)) if alike else 0
    return -alike - holds, gap, other


def _listed(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


class BadOption(InputError):
    """An option's value is outside what it may be."""


class UnwritableFile(WhenceError, OSError):
    """A file cannot be written; what stood there before is unchanged. Also an `OSError` with the
    number of the cause."""

    def __init__(self, path: str | Path, cause: OSError | str) -> None:
        super().__init__(*(cause.args[:2] if isinstance(cause, OSError) else (None, cause)))
        self.path = str(path)
        self.reason = cause if isinstance(cause, str) else cause.strerror or str(cause)
        if isinstance(cause, OSError) and cause.errno in _WRITE_FIXES:
            self.reason += f"; {_WRITE_FIXES[cause.errno]}"

    def __str__(self) -> str:
        return f"cannot write {self.path!r}: {self.reason}"


_WRITE_FIXES = {
    errno.ENOENT: "make the folder first",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOSPC: "make room there or choose another place",
    errno.EDQUOT: "make room there or choose another place",
    errno.EFBIG: "raise the limit on file size or choose another place",
}


class ModelError(WhenceError):
    """A model cannot do what was asked."""


class NotFitted(ModelError):
    """A descriptor that has to see photos first was asked to describe."""


class EngineRefused(ModelError):
    """A faster engine or an exported file gives other descriptors than the network; carries the
    smallest `cosine`."""

    def __init__(self, name: str, cosine: float, limit: float) -> None:
        super().__init__(
            f"{name} is refused: its descriptors reach a cosine of {cosine:.4f} to the network's "
            f"own, below {limit}"
        )
        self.cosine = cosine


class CalibrationMismatch(ModelError):
    """No calibration was fitted with the settings in use; the message says how to fit one."""


class MissingExtra(ModelError):
    """An optional package is needed; says which extra installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional package: install it with  pip install "
            f'"{DISTRIBUTION}[{extra}]"'
        )
        self.extra = extra


class MissingWeights(ModelError):
    """A model's weights are not on this machine; the message says which file to put where, and
    where it comes from."""


class DownloadFailed(ModelError):
    """A file could not be fetched; carries `address` and `reason`."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot download {address}: {reason}")
        self.address = address
        self.reason = reason


class UnreadableWeights(ModelError):
    """A file of weights cannot be read; nothing inside it was run. Carries `path` and `reason`."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read weights from {str(path)!r}: {reason}")
        self.path = str(path)
        self.reason = reason


class WeightsMismatch(ModelError):
    """Weights do not fit the network; carries all keys that are `unknown`, `missing` or
    `misshapen`."""

    def __init__(
        self,
        path: str | Path,
        model: str,
        *,
        unknown: Iterable[str],
        missing: Iterable[str],
        misshapen: Iterable[str],
    ) -> None:
        self.path = str(path)
        self.unknown, self.missing, self.misshapen = (
            tuple(unknown),
            tuple(missing),
            tuple(misshapen),
        )
        kinds = {
            "unknown": self.unknown,
            "missing": self.missing,
            "of another shape": self.misshapen,
        }
        lists = "; ".join(
            f"{len(keys)} {kind}: {_first_ten(keys)}" for kind, keys in kinds.items() if keys
        )
        super().__init__(f"the weights in {self.path!r} are not those of {model}; keys {lists}")


def _first_ten(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


class StoreError(WhenceError):
    """Something is wrong with a database folder; the message names it."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{str(path)!r}: {reason}")
        self.path = str(path)
        self.reason = reason


class NotAStore(StoreError):
    """The folder is not a Whence database."""


class CorruptStore(StoreError):
    """A file of the database is missing, truncated or does not match the manifest."""


class StoreVersion(StoreError):
    """Written in a format this version does not read."""


class StoreLocked(StoreError):
    """Another process is writing to the database."""


class StoreFull(StoreError):
    """The disk refused the write; the previous state is intact."""


class CardMismatch(StoreError):
    """The database was made with another model, or fitted on other photos."""
