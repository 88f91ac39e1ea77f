"""Records of requests and answers as the service's description (OpenAPI) shows them. Answers are
what `Position.to_dict` holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ANSWER: dict[str, Any] = {
    "query": "where.jpg",
    "status": "located",
    "confidence": 0.97,
    "is_verified": True,
    "scorer": "inliers",
    "position": {"lat": 55.7051, "lon": 13.1881, "radius_m": 12.5, "heading_deg": 271.0},
    "best_guess": None,
    "candidates": [
        {
            "photo": "photos/0017.jpg",
            "id": "3f7a0c1b9d2e4f5a6b7c8d9e0f1a2b3c",
            "rank": 1,
            "similarity": 0.71,
            "retrieved_rank": 2,
            "num_inliers": 64,
            "confidence": 0.97,
            "is_passed_over": False,
            "lat": 55.7051,
            "lon": 13.1881,
            "heading_deg": 270.0,
        }
    ],
    "seconds": {"search": 0.0004, "rerank": 0.11, "verify": 0.002},
    "reason": "",
}


class Fault(BaseModel):
    """What was wrong, in a sentence."""

    error: str = Field(examples=["a place is LAT,LON in degrees, for example 55.705,13.188"])


class Answers(BaseModel):
    """One answer for each photo, in their order."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"database": "city", "answers": [EXAMPLE_ANSWER]}}
    )
    database: str
    answers: list[dict[str, Any]]


class Box(BaseModel):
    """Degrees that hold all photos."""

    south: float
    west: float
    north: float
    east: float


class DatabaseRecord(BaseModel):
    """A database."""

    name: str = Field(examples=["city"])
    num_photos: int
    num_with_point: int
    model: str = Field(examples=["whence-lite0-words-960"])
    box: Box | None


class PhotoRecord(BaseModel):
    """A photo of a database, and its place."""

    id: str = Field(examples=["3f7a0c1b9d2e4f5a6b7c8d9e0f1a2b3c"])
    photo: str
    lat: float | None
    lon: float | None
    heading_deg: float | None
    time: str | None
    width: int
    height: int


class PhotoList(BaseModel):
    """Photos of a database, the nearest first where a place was asked about."""

    database: str
    num_photos: int
    photos: list[PhotoRecord]


class Kept(BaseModel):
    """Photos that were taken in, and the job that describes them."""

    job: str
    photos: list[str]
    refused: list[dict[str, str]]


class JobRecord(BaseModel):
    """A job, and how far it is."""

    id: str
    kind: Literal["add", "remove", "folder", "video", "tag"]
    database: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    num_done: int
    num_total: int | None
    error: str
    summary: dict[str, Any]
    folder: str | None = None


class FolderQuestion(BaseModel):
    """A folder that was named at the service's start, and options as of /v1/locate."""

    model_config = ConfigDict(extra="forbid")
    folder: str = Field(max_length=64, examples=["holiday"])
    database: str | None = Field(None, max_length=64)
    k: int = Field(20, ge=1, le=200)
    rerank: str | None = Field(None, max_length=100)
    verify: bool = True
    min_confidence: float | None = Field(None, gt=0, lt=1)


class Acceptance(BaseModel):
    """One photo of a review: accepted as proposed, or at the place it was moved to."""

    model_config = ConfigDict(extra="forbid")
    photo: str = Field(max_length=1000, examples=["2019/a.jpg"])
    lat: float | None = Field(None, ge=-90, le=90)
    lon: float | None = Field(None, ge=-180, le=180)


class Acceptances(BaseModel):
    """The photos whose places are written."""

    model_config = ConfigDict(extra="forbid")
    accepted: list[Acceptance] = Field(max_length=10_000)


class Options:
    """Options of a question, as of `whence locate`."""

    def __init__(
        self,
        database: Annotated[
            str | None,
            Query(max_length=64, description="Name of the database; without it, the first."),
        ] = None,
        k: Annotated[int, Query(ge=1, le=200, description="Candidates per photo.")] = 20,
        near: Annotated[
            str | None,
            Query(
                max_length=60,
                description="Only around this place: LAT,LON.",
                examples=["55.705,13.188"],
            ),
        ] = None,
        within: Annotated[
            float | None, Query(gt=0, le=2.1e7, description="Radius of `near` in metres.")
        ] = None,
        rerank: Annotated[
            str | None,
            Query(max_length=100, description="Scorer, or chain: geowarp:100,inliers:10."),
        ] = None,
        rerank_candidates: Annotated[
            int, Query(ge=1, le=100, description="Candidates that are compared.")
        ] = 20,
        verify: Annotated[
            bool, Query(description="false gives the best match, whether or not it is the place.")
        ] = True,
        min_confidence: Annotated[
            float | None,
            Query(gt=0, lt=1, description="Probability from which an answer is given."),
        ] = None,
        when_unknown: Annotated[
            str, Query(max_length=60, description="auto, none, or SCORER:PHOTOS.")
        ] = "auto",
        query_mode: Annotated[
            str | None,
            Query(
                max_length=40,
                description="How photos are looked at, as query_mode of whence locate --set.",
            ),
        ] = None,
    ) -> None:
        self.database = database
        self.values: dict[str, Any] = {
            **{
                "k": k,
                "near": near,
                "within": within,
                "rerank": rerank,
                "rerank_candidates": rerank_candidates,
            },
            **{
                "verify": verify,
                "min_confidence": min_confidence,
                "when_unknown": when_unknown,
                "query_mode": query_mode,
            },
        }
