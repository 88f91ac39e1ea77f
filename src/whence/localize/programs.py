"""Databases for other programs and from them, each by its name or by how its files look."""

from __future__ import annotations

from pathlib import Path

from whence.errors import BadOption
from whence.localize.hloc import export_hloc, import_hloc
from whence.localize.kapture import export_kapture, import_kapture, is_kapture
from whence.localize.kept_features import Exported
from whence.localize.maintain import import_database

PROGRAMS = {"hloc": export_hloc, "kapture": export_kapture}


def export_for(
    program: str,
    path: str | Path,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    pairs: str | Path | None = None,
) -> Exported:
    """A report of what was written for a program. Raises `BadOption` for one that is not known,
    and as `export_hloc` and `export_kapture`."""
    if program not in PROGRAMS:
        raise BadOption(f"--for takes {' or '.join(PROGRAMS)}, not {program!r}")
    return PROGRAMS[program](path, folder, root=root, pairs=pairs)


def import_descriptors(
    source: str | Path,
    *,
    path: str | Path,
    photos: str | Path | None = None,
    model: str | None = None,
    positions: str | Path | None = None,
) -> int:
    """The number of photos whose descriptors became the database `path`: of an .h5 file of hloc, a
    folder of kapture's, or one that a database was exported to.

    Raises `BadOption` for what does not go together, and as `import_hloc`, `import_kapture` and
    `import_database`.
    """
    is_hloc = str(source).endswith((".h5", ".hdf5"))
    if is_hloc:
        if photos is None or model is None:
            raise BadOption("an .h5 file needs --photos FOLDER and --model NAME")
        return import_hloc(source, path=path, photos=photos, model=model, positions=positions)
    if is_kapture(source):
        if model is None:
            raise BadOption("kapture's descriptors need --model NAME, the network that made them")
        return import_kapture(source, path=path, photos=photos, model=model, positions=positions)
    if (photos, model, positions) != (None, None, None):
        raise BadOption(
            f"{str(source)!r} is neither an .h5 file nor a folder of kapture's; only these take "
            "--photos, --model and --positions"
        )
    return import_database(source, path=path)
