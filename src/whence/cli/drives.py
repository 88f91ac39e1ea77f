"""Videos as sources of photos: the frames that are taken of them, and where those lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whence.cli.output import print_note
from whence.errors import BadOption


def with_frames(
    sources: Sequence[str], database: str, *, every: str | None, track: str | None
) -> list[str]:
    """The sources, each video replaced by the folder of its frames, which lies beside the database.

    Raises `BadOption` for --every or --track without a video, and as `extract_frames`.
    """
    from whence.data.tracks import read_gpx
    from whence.data.video_frames import Every, extract_frames
    from whence.data.videos import is_video

    if not any(map(is_video, sources)):
        if every is not None or track is not None:
            raise BadOption("--every and --track are for videos, and none is given")
        return list(sources)
    way, followed = Every.parse(every or "1s"), None if track is None else read_gpx(track)
    found = []
    for source in sources:
        if not is_video(source):
            found.append(source)
            continue
        folder = frames_folder(source, database)
        taken = extract_frames(source, folder, every=way, track=followed)
        print_note(
            f"{source}: {taken.num_frames} frames in {str(folder)!r}, {taken.num_with_point} with "
            "a place"
        )
        for remark in taken.remarks:
            print_note(remark)
        found.append(str(folder))
    return found


def frames_folder(video: str, database: str) -> Path:
    """Where the frames of a video lie: in a folder of its name, in one beside the database."""
    path = Path(database)
    return path.with_name(f"{path.name.removesuffix('.whence')}.frames") / Path(video).stem
