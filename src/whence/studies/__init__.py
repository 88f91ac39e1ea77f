"""Studies: named grids of measurements over models, recipes and settings. `whence study` lists and
runs them."""

from __future__ import annotations

from whence.errors import UnknownName
from whence.studies import (
    benchmark,
    compllm,
    delta,
    earth,
    earthmatch,
    geowarp,
    local,
    looks,
    many_sources,
    owners,
    place_classes,
    registration,
    rendered,
    rerank,
    sequence_grid,
)
from whence.studies.frame import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for room in (
        *(geowarp, benchmark, rerank, place_classes, many_sources, sequence_grid),
        *(earth, earthmatch, registration, rendered, looks, owners, local, delta, compllm),
    )
    for study in room.STUDIES
}


def list_studies() -> tuple[str, ...]:
    """Names of the studies, sorted."""
    return tuple(sorted(STUDIES))


def get_study(name: str) -> Study:
    """The study of this name. Raises `UnknownName` with the nearest names."""
    if name not in STUDIES:
        raise UnknownName("study", name, STUDIES)
    return STUDIES[name]
