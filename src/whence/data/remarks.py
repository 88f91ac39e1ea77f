"""What a scan has to say of its photos as a whole: each kind once, with a count and the first
names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

RemarkKind = Literal["no fix", "contradiction", "refused"]
_MAX_NAMED = 3
_SENTENCES: dict[RemarkKind, str] = {
    "no fix": (
        "latitude 0, longitude 0 means no fix and is not taken from {photos} (allow_null_island "
        "takes it): {names}"
    ),
    "contradiction": (
        "the EXIF position of {photos} contradicts that of a table or name, which is believed: "
        "{names}"
    ),
    "refused": "a stated position is not taken from {photos}: {names}",
}


class Remark(NamedTuple):
    """One thing to say of one photo."""

    kind: RemarkKind
    photo: str
    detail: str = ""


def summarize(remarks: Iterable[Remark]) -> tuple[str, ...]:
    """One sentence for each kind, in the order of the kinds."""
    held = sorted(set(remarks))
    sentences = []
    for kind, sentence in _SENTENCES.items():
        of_kind = [remark for remark in held if remark.kind == kind]
        if of_kind:
            num = len({remark.photo for remark in of_kind})
            named = [f"{photo} ({detail})" if detail else photo for _, photo, detail in of_kind]
            sentences.append(
                sentence.format(
                    photos="1 photo" if num == 1 else f"{num} photos", names=first_few(named)
                )
            )
    return tuple(sentences)


def first_few(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _MAX_NAMED} more" if len(listed) > _MAX_NAMED else ""
    return "; ".join(listed[:_MAX_NAMED]) + more
