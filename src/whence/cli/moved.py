"""`--moved OLD=NEW` as two folders."""

from __future__ import annotations

from pathlib import Path

from whence.errors import BadOption


def split_moved(moved: str) -> tuple[str, str]:
    """The two folders of OLD=NEW; of several "=" the first behind which there is something."""
    places = [at for at, letter in enumerate(moved) if letter == "="]
    if not places:
        raise BadOption(f"--moved takes OLD=NEW, two folders, not {moved!r}")
    at = next((at for at in places if Path(moved[at + 1 :]).exists()), places[0])
    if not moved[:at] or not moved[at + 1 :]:
        raise BadOption(f"--moved takes OLD=NEW, two folders, not {moved!r}")
    return moved[:at], moved[at + 1 :]
