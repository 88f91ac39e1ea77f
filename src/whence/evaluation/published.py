"""The published evaluation sets by name: where each comes from, how its files lie, and what counts
as right.

How the files of a folder lie is found out in `whence.data.evaluation_sets`. Sizes and splits after
the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022), CosPlace (Berton et al., CVPR
2022) and their public data tools.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.data.formats import EvaluationSet
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import NoPhotos, UnknownName
from whence.settings import load_settings

_TOOL = "github.com/gmberton/VPR-datasets-downloader"
OFFICIAL_QUERIES = "official_queries.txt"
"""Keys of the 740 official validation queries of MSLS, one a line, in the set's folder."""


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """One set and one protocol."""

    name: str
    origin: str
    """Where a person gets it."""
    split: str = "test"
    queries_folder: str = ""
    """Where the queries lie, if not in the usual folder."""
    num_database: int = 0
    """Photos as published; 0 where no source gives the number."""
    num_queries: int = 0
    thresholds_m: tuple[float, ...] = (25.0,)
    is_official: bool = False
    """Only the queries that the set's folder lists."""
    note: str = ""


def _sets() -> dict[str, PublishedSet]:
    netvlad = (
        "ask the authors of NetVLAD (Arandjelovic et al.) for the photos, then format them with "
        f"{_TOOL}"
    )
    mapillary = f"download it from mapillary.com/dataset/places, as it is or formatted with {_TOOL}"
    served = f"download it with {_TOOL}"
    sf_xl = "fill in the form at github.com/gmberton/CosPlace"
    mock = "positions are mock ones that put exactly the right photos within 25 m"
    sets = (
        PublishedSet("pitts30k", netvlad, num_database=10_000, num_queries=6_816),
        PublishedSet("pitts250k", netvlad, num_database=83_952, num_queries=8_280),
        PublishedSet(
            "tokyo247",
            netvlad,
            num_database=75_984,
            num_queries=315,
            note="queries differ in size: name a query_mode",
        ),
        PublishedSet(
            "msls-val",
            mapillary,
            split="val",
            num_database=18_871,
            note="all queries of sf and cph",
        ),
        PublishedSet(
            "msls-val-official",
            mapillary,
            split="val",
            num_database=18_871,
            num_queries=740,
            is_official=True,
            note="the 740 official queries",
        ),
        PublishedSet("msls-train", mapillary, split="train", note="all cities but sf and cph"),
        PublishedSet("st_lucia", served, num_database=1_549, num_queries=1_464),
        PublishedSet("eynsham", served, num_database=23_935, num_queries=23_935),
        PublishedSet("san_francisco", served, num_queries=598),
        PublishedSet("nordland", served, num_database=27_592, num_queries=27_592, note=mock),
        PublishedSet("amstertime", served, num_database=1_231, num_queries=1_231, note=mock),
        PublishedSet("sped", served, num_database=607, num_queries=607, note=mock),
        PublishedSet("sf_xl-val", sf_xl, split="val", num_database=8_015, num_queries=7_983),
        PublishedSet("sf_xl-test-v1", sf_xl, queries_folder="queries_v1", num_queries=1_000),
        PublishedSet("sf_xl-test-v2", sf_xl, queries_folder="queries_v2", num_queries=598),
        PublishedSet("sf_xl-test-night", sf_xl, queries_folder="queries_night", num_queries=466),
        PublishedSet(
            "sf_xl-test-occlusion", sf_xl, queries_folder="queries_occlusion", num_queries=76
        ),
    )
    return {one.name: one for one in sets}


PUBLISHED: Mapping[str, PublishedSet] = _sets()


def get_published(name: str) -> PublishedSet:
    """The published set of this name. Raises `UnknownName` with the nearest names."""
    if name not in PUBLISHED:
        raise UnknownName("published set", name, PUBLISHED)
    return PUBLISHED[name]


def find_set(name: str, *, folder: str | Path | None, datasets: str = "") -> Path:
    """The folder of a published set: the one given, else its own under the folder of all sets.

    Raises `NoPhotos` saying where the set comes from where there is none.
    """
    known = get_published(name)
    base = name.split("-")[0]
    places = (
        [Path(folder)]
        if folder is not None
        else [Path(datasets) / name, Path(datasets) / base]
        if datasets
        else []
    )
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        looked = (
            f"no folder {' or '.join(repr(str(place)) for place in places)}"
            if places
            else "no folder is named"
        )
        raise NoPhotos(
            f"{name}: {looked}. To get the set, {known.origin}; then give its folder and "
            f"--protocol {name}, or put it into a "
            f"folder {base!r} under the one that DATASETS_FOLDER names"
        )
    return found


def open_published(
    name: str,
    root: str | Path,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008
) -> EvaluationSet:
    """A published set in a folder, as its protocol says. Raises `NoPhotos` saying where the set
    comes from, and as the readers."""
    known = get_published(name)
    try:
        data = open_set(
            root, split=known.split, queries_folder=known.queries_folder or None, options=options
        )
    except NoPhotos as error:
        raise NoPhotos(f"{error}. {name}: {known.origin}") from None
    if known.is_official:
        data = _official(data, Path(root))
    return replace(data, name=name)


def sizes_note(name: str, data: EvaluationSet) -> str:
    """A sentence on how a set differs from the published one, empty where sizes agree or are not
    known."""
    known = get_published(name)
    pairs = (
        ("database photos", len(data.database), known.num_database),
        ("queries", len(data.queries), known.num_queries),
    )
    off = [
        f"{found} {what} instead of {expected}"
        for what, found, expected in pairs
        if expected and found != expected
    ]
    return (
        f"{name} has {' and '.join(off)}: figures do not compare with published ones" if off else ""
    )


def open_any(data: str | Path, *, is_leave_one_out: bool = False) -> EvaluationSet:
    """The evaluation set at a path, or the published one of this name; with leave-one-out the
    photos of a folder on both sides.

    Published sets are looked for as `whence evaluate NAME` does. Raises `NoPhotos`, and as
    `open_set` does.
    """
    path = Path(data)
    if is_leave_one_out:
        photos = scan_photos(path)
        if not len(photos):
            raise NoPhotos(f"no readable photos under {str(path)!r}")
        return EvaluationSet(path.resolve().name, photos, photos)
    if str(data) in PUBLISHED and not path.exists():
        return open_published(
            str(data), find_set(str(data), folder=None, datasets=datasets_folder())
        )
    return open_set(path)


def datasets_folder() -> str:
    """The folder that holds published sets by name: the setting `datasets`, else DATASETS_FOLDER;
    empty where neither is."""
    return load_settings().datasets or os.environ.get("DATASETS_FOLDER", "")


def _official(data: EvaluationSet, root: Path) -> EvaluationSet:
    """The set with only the queries whose keys the set's own list names."""
    listing = root / OFFICIAL_QUERIES
    if not listing.is_file():
        raise NoPhotos(
            f"{str(listing)!r} is missing: it lists the keys of the official queries, one a line. "
            "The authors' code at github.com/mapillary/mapillary_sls prints them; without the "
            "list use msls-val, all queries"
        )
    keys = {
        line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()
    }
    rows = [
        row
        for row, path in enumerate(data.queries.paths)
        if keys & {Path(path).stem, *Path(path).name.split("@")}
    ]
    if len(rows) != len(keys):
        raise NoPhotos(
            f"{str(listing)!r} lists {len(keys)} queries, of which {len(rows)} are there"
        )
    notes = tuple(data.notes[row] for row in rows) if data.notes else ()
    return replace(data, queries=data.queries.select(np.array(rows, np.int64)), notes=notes)
