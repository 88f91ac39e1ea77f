"""Sets of `whence evaluate` and `whence compare`: which one a person means."""

from __future__ import annotations

from pathlib import Path

from whence.cli.output import print_note
from whence.data.formats import EvaluationSet, read_frames
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import BadOption, NoPhotos
from whence.evaluation.stated import StatedEvaluation, published_name


def read_set(
    data: str,
    fields: StatedEvaluation,
    *,
    protocol: str | None = None,
    layout: str | None = None,
    positions: str | None = None,
    leave_one_out: bool = False,
) -> EvaluationSet:
    """The set a person means: a published one, walks with frames, one collection left out one by
    one, else as it is laid out."""
    from whence.data.evaluation_sets import open_set
    from whence.evaluation.published import datasets_folder, find_set, open_published, sizes_note

    folders = (fields.database_folder, fields.queries_folder)
    frames, split = fields.frames, fields.split
    options = ReadOptions(allow_null_island=fields.allow_null_island)
    path = Path(data)
    name = published_name(data, protocol)
    if name is not None:
        if (
            leave_one_out
            or frames is not None
            or split
            or folders != (None, None)
            or layout is not None
        ):
            raise BadOption(
                f"the protocol {name} says how the set is read: leave out --layout, "
                "--leave-one-out, split, folders and frames"
            )
        root = find_set(name, folder=data if protocol else None, datasets=datasets_folder())
        found = open_published(name, root, options=options)
        if note := sizes_note(name, found):
            print_note(note)
        return found
    if layout is not None and (leave_one_out or frames is not None):
        raise BadOption(
            "--layout is for sets of database and queries: leave out frames and --leave-one-out"
        )
    if leave_one_out:
        if frames is not None:
            raise BadOption("--leave-one-out and frames exclude each other")
        photos = scan_photos(data, positions=positions, **options._asdict())
        if not len(photos):
            raise NoPhotos(f"no readable photos under {data!r}")
        return EvaluationSet(path.resolve().name, photos, photos)
    if frames is not None:
        return read_frames(
            path,
            tolerance_frames=frames,
            database_folder=folders[0],
            queries_folder=folders[1],
            options=options,
        )
    return open_set(
        path,
        layout=layout or "",
        split=split,
        database_folder=folders[0],
        queries_folder=folders[1],
        positions=positions,
        options=options,
    )
