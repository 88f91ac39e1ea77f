"""The options of a question as people state them, on the command line and to the service: texts and
numbers, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from whence.errors import BadOption
from whence.localize.localizer import RETRIEVE_ONLY, LocateOptions
from whence.localize.rerank_options import RerankOptions, rerank_options
from whence.localize.retrieve import Around
from whence.localize.unknown import AUTO
from whence.models.asking import QueryViews, parse_views
from whence.settings import NO_OPTIONS, OTHERWISE
from whence.types import GeoPoint


@dataclass(frozen=True, slots=True)
class StatedComparison:
    """How queries are looked at and candidates compared, field by field as `--set FIELD=VALUE`
    takes them."""

    matcher: str | None = None
    """Matcher of the scorer inliers."""
    scorer_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the scorer by name: `scorer_options.ratio=0.7`."""
    num_candidates: int = 20
    """Candidates per query that are compared."""
    max_seconds: float | None = None
    """Seconds per query for comparing."""
    when_unsure: float | None = None
    """Compare candidates only until one is right with this probability."""
    otherwise: str = OTHERWISE
    """What orders the first candidates where matches speak for none: SCORER:PHOTOS, or none."""
    calibration: str | None = None
    """Calibration file instead of the database's own or the packaged one."""
    query_mode: str | None = None
    """How queries are looked at: hard_resize, five_crops, maj_voting, panorama, rotations, ..."""
    query_size: str | None = None
    """Height and width for `query_mode`, as 480x640."""

    @property
    def views(self) -> QueryViews | None:
        """How queries are looked at; None as the model's card says. Raises `BadOption` and
        `UnknownName`."""
        return parse_views(self.query_mode, self.query_size)

    def rerank_options(self, scorer: str | None) -> RerankOptions | None:
        """How a scorer re-ranks; None without one. Raises `BadOption`, also for fields that need a
        scorer, and `UnknownName`."""
        if scorer is None:
            usual, needed = (
                StatedComparison(),
                ("matcher", "scorer_options", "num_candidates", "max_seconds", "when_unsure"),
            )
            for name in needed:
                if getattr(self, name) != getattr(usual, name):
                    raise BadOption(f"{name} is for comparing candidates: it goes with --rerank")
            return None
        return rerank_options(
            scorer,
            matcher=self.matcher,
            num_candidates=self.num_candidates,
            max_seconds=self.max_seconds,
            scorer_options=self.scorer_options,
            when_unsure=self.when_unsure,
            otherwise=self.otherwise,
        )


@dataclass(frozen=True, slots=True)
class StatedQuestion(StatedComparison):
    """The fields of a question, as `whence locate --set FIELD=VALUE` takes them."""

    min_confidence: float | None = None
    """Probability from which an answer is given instead of `unknown`."""
    when_unknown: str = AUTO
    """What is asked about photos that stay unknown: SCORER[:PHOTOS], none, or auto."""
    every: str | None = None
    """Frames taken of a video: 1s or change."""
    is_smoothed: bool = True
    """Whether a track is smoothed by the motion model."""

    def options(self, rerank: str | None, *, is_verified: bool) -> LocateOptions:
        """The options they come to. Raises `BadOption` and `UnknownName`."""
        stated = {entry.name: getattr(self, entry.name) for entry in fields(StatedComparison)}
        del stated["query_mode"], stated["query_size"]
        options = locate_options(
            rerank, **stated, is_verified=is_verified, min_confidence=self.min_confidence
        )
        return replace(options, views=self.views, when_unknown=self.when_unknown)


def locate_options(
    rerank: str | None,
    *,
    matcher: str | None = None,
    scorer_options: Mapping[str, Any] = NO_OPTIONS,
    num_candidates: int = 20,
    max_seconds: float | None = None,
    when_unsure: float | None = None,
    otherwise: str = OTHERWISE,
    is_verified: bool = True,
    min_confidence: float | None = None,
    calibration: str | None = None,
) -> LocateOptions:
    """The options of the flags: by default re-rank and verify; without verification re-rank only
    where a scorer is named."""
    if not is_verified and (
        min_confidence is not None or (calibration is not None and when_unsure is None)
    ):
        raise BadOption(
            "min_confidence and calibration are for verification, which --no-verify leaves out"
        )
    if not is_verified and rerank is None and when_unsure is None and matcher is None:
        return RETRIEVE_ONLY
    return LocateOptions(
        rerank=rerank_options(
            rerank or "inliers",
            matcher=matcher,
            num_candidates=num_candidates,
            max_seconds=max_seconds,
            scorer_options=scorer_options,
            when_unsure=when_unsure,
            otherwise=otherwise,
        ),
        is_verified=is_verified,
        calibration=None if calibration is None else Path(calibration),
        min_confidence=min_confidence,
    )


def parse_around(near: str | None, within: float | None) -> Around | None:
    """The geographic filter of `--near LAT,LON --within M`. Raises `BadOption`."""
    if near is None and within is None:
        return None
    if near is None or within is None:
        raise BadOption("--near LAT,LON and --within METRES go together")
    try:
        lat, lon = (float(part) for part in near.split(","))
    except ValueError:
        raise BadOption(
            f"--near takes LAT,LON in degrees, for example 55.705,13.188; not {near!r}"
        ) from None
    return Around(GeoPoint(lat, lon), within)


@dataclass(frozen=True, slots=True)
class StatedBuild:
    """What a database is made with, field by field as `--set FIELD=VALUE` takes it: fields of
    `BuildOptions`, None as they stand, and one of the cluster."""

    dtype: str | None = None
    """How descriptors are stored: float32 or float16."""
    keep_local: bool | None = None
    """Whether local descriptors are kept for comparing candidates. Default: where the model has
    them and all take at most 2 GB."""
    allow_null_island: bool | None = None
    """Whether latitude 0, longitude 0 is a place instead of a missing fix."""
    commit_photos: int | None = None
    """Photos described between two commits."""
    commit_seconds: float | None = None
    """Seconds between two commits at most."""
    seed: int | None = None
    """Seed of what is fitted."""
    sends_photos: bool = False
    """With --cluster: whether workers, which do not see these folders, are sent the photos."""

    def build_options(self) -> dict[str, Any]:
        """Those of `BuildOptions` that were given."""
        values = {name: value for name, value in asdict(self).items() if name != "sends_photos"}
        return {name: value for name, value in values.items() if value is not None}
