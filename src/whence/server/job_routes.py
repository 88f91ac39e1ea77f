"""Routes about jobs: begin one, follow it, read its results, write what was reviewed, and take that
back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse

from whence.errors import BadOption, UnreadableVideo
from whence.localize.records import as_geojson, as_gpx, position_of
from whence.records import finite_values
from whence.runtime import atomic_write
from whence.server.jobs import Job, new_id
from whence.server.photo_routes import drawn_file
from whence.server.questioning import options_of
from whence.server.schemas import Acceptances, Fault, FolderQuestion, JobRecord
from whence.server.service import Service, service_of
from whence.server.uploads import shown_name
from whence.server.waiting import Busy
from whence.types import GeoPoint

router = APIRouter(
    prefix="/v1",
    responses={code: {"model": Fault} for code in (401, 403, 404, 413, 421, 422, 503, 504)},
)
_POLL_S = 0.4
_MOST_STREAMS = 100
_STREAM_S = 3600.0
_PIECE_BYTES = 1_000_000


def job_record(job: Job) -> dict[str, Any]:
    """Plain values of a job, as it is answered; names of its files are the service's own."""
    shown = {
        name: getattr(job, name)
        for name in ("id", "kind", "database", "state", "num_done", "num_total", "error")
    }
    summary = {name: value for name, value in job.summary.items() if name != "undo_files"}
    return {
        **shown,
        "summary": {**summary, "can_undo": bool(job.summary.get("undo_files"))},
        "folder": job.options.get("folder"),
    }


@router.get("/folders", response_model=list[str], summary="Folders that jobs may look at")
async def folders(request: Request) -> JSONResponse:
    """The names that were given to folders at the service's start."""
    return JSONResponse(sorted(service_of(request).terms.folders))


@router.get("/jobs", response_model=list[JobRecord], summary="All jobs")
async def jobs(request: Request) -> JSONResponse:
    """All jobs that are remembered, the newest first."""
    service = service_of(request)
    return JSONResponse(
        await service.reading.run(lambda: [job_record(job) for job in reversed(service.jobs.all())])
    )


async def _begin(request: Request, kind: str, question: FolderQuestion) -> JSONResponse:
    service = service_of(request)
    asked = question.model_dump(exclude={"database"})
    service.kinds.root_of(question.folder)
    options_of(asked)
    # A review without a database is placed by the folder's own photos.
    database = (
        ""
        if kind == "tag" and question.database is None
        else service.databases.get(question.database).name
    )
    job = await service.reading.run(
        partial(service.jobs.add, kind, database=database, options=asked)
    )
    return JSONResponse(job_record(job), 202)


@router.post(
    "/jobs/folder",
    response_model=JobRecord,
    status_code=202,
    summary="Place all photos of a folder",
)
async def begin_folder(request: Request, question: FolderQuestion) -> JSONResponse:
    """A job that answers every photo of a folder that was named at the service's start."""
    return await _begin(request, "folder", question)


@router.post(
    "/jobs/tag",
    response_model=JobRecord,
    status_code=202,
    summary="Propose places for photos without a geotag",
)
async def begin_tag(request: Request, question: FolderQuestion) -> JSONResponse:
    """A job that proposes places as `whence tag` does; nothing is written before it was
    reviewed."""
    return await _begin(request, "tag", question)


@router.post("/jobs/video", response_model=JobRecord, status_code=202, summary="Track a video")
async def begin_video(
    request: Request,
    video: Annotated[UploadFile, File(description="A video.")],
    database: Annotated[str | None, Query(max_length=64)] = None,
    every_s: Annotated[float, Form(gt=0, le=3600, description="Seconds between two frames.")] = 1.0,
    length: Annotated[int, Form(ge=1, le=30, description="Frames that ask together.")] = 5,
) -> JSONResponse:
    """A job that places the frames of a video, one after the other; the upload is kept until the
    job has ended."""
    service = service_of(request)
    one = service.databases.get(database)
    id = new_id()
    await _keep_video(video, Path(service.terms.state) / "videos" / f"{id}.video")
    asked = {"name": shown_name(video.filename), "every_s": every_s, "length": length}
    job = await service.reading.run(
        partial(service.jobs.add, "video", database=one.name, options=asked, id=id)
    )
    return JSONResponse(job_record(job), 202)


async def _keep_video(video: UploadFile, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        size = 0
        while piece := await video.read(_PIECE_BYTES):
            size += len(piece)
            await asyncio.to_thread(out.write, piece)
        if not size:
            raise UnreadableVideo(shown_name(video.filename), "it is empty")


@router.get("/jobs/{id}", response_model=JobRecord, summary="A job")
async def job(request: Request, id: str) -> JSONResponse:
    """How far a job is, and what came of it."""
    return JSONResponse(job_record(await _job(request, id)))


@router.delete("/jobs/{id}", response_model=JobRecord, summary="End a job")
async def end_job(request: Request, id: str) -> JSONResponse:
    """A job that waits or runs, ended; results so far stay."""
    service = service_of(request)
    return JSONResponse(job_record(await service.reading.run(partial(service.jobs.cancel, id))))


@router.get(
    "/jobs/{id}/results",
    summary="Results of a job",
    responses={
        200: {
            "content": {
                "application/json": {},
                "application/geo+json": {},
                "application/gpx+xml": {},
            }
        }
    },
)
async def results(
    request: Request,
    id: str,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
    num: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    format: Annotated[
        str, Query(pattern="^(json|geojson|gpx)$", description="json, geojson or gpx")
    ] = "json",
) -> Response:
    """Answers of a folder, places of a video's frames, or proposals of a review; so far, where the
    job still runs."""
    service = service_of(request)
    one = await _job(request, id)
    found = await service.reading.run(partial(service.jobs.results, id))
    if format != "json":
        if one.kind not in ("folder", "video"):
            raise BadOption("proposals are answered as json; write what is right of them")
        answers = [position_of(record) for record in found]
        if format == "gpx":
            return Response(as_gpx(answers), media_type="application/gpx+xml")
        return JSONResponse(as_geojson(answers), media_type="application/geo+json")
    return JSONResponse(
        finite_values(
            {
                "job": job_record(one),
                "num_results": len(found),
                "results": found[start : start + num],
            }
        )
    )


@router.get(
    "/jobs/{id}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/event-stream": {"example": 'data: {"state": "running", "num_done": 3}\n\n'}
            }
        }
    },
)
async def events(request: Request, id: str) -> StreamingResponse:
    """The job each time it has come further, as server-sent events, until it ends."""
    service = service_of(request)
    await _job(request, id)
    if request.app.state.num_streams >= _MOST_STREAMS:
        raise Busy
    return StreamingResponse(_events(request, service, id), media_type="text/event-stream")


async def _events(request: Request, service: Service, id: str) -> AsyncIterator[str]:
    request.app.state.num_streams += 1
    try:
        before, until = "", asyncio.get_running_loop().time() + _STREAM_S
        while asyncio.get_running_loop().time() < until and not request.app.state.is_ending:
            one = service.jobs.get(id)
            now = json.dumps(job_record(one))
            yield f"data: {now}\n\n" if now != before else ": still here\n\n"
            before = now
            if not one.is_open or await request.is_disconnected():
                return
            await asyncio.sleep(_POLL_S)
    finally:
        request.app.state.num_streams -= 1


@router.post("/jobs/{id}/accepted", summary="Write what was reviewed")
async def accept(request: Request, id: str, acceptances: Acceptances) -> JSONResponse:
    """XMP sidecars, written beside the photos whose places were accepted; photos themselves are
    never changed."""
    service = service_of(request)
    one = await _review(request, id)
    chosen: list[tuple[str, GeoPoint | None]] = []
    for each in acceptances.accepted:
        if (each.lat is None) != (each.lon is None):
            raise BadOption("lat and lon go together")
        chosen.append(
            (
                each.photo,
                None if each.lat is None or each.lon is None else GeoPoint(each.lat, each.lon),
            )
        )
    return JSONResponse(
        dict(await service.reading.run(partial(service.kinds.write_accepted, one, chosen)))
    )


@router.post("/jobs/{id}/undo", summary="Take back what was written")
async def take_back(request: Request, id: str) -> JSONResponse:
    """The sidecars that the last writing of this review made, removed where they are unchanged
    since."""
    service = service_of(request)
    one = await _review(request, id)
    return JSONResponse(dict(await service.reading.run(partial(service.kinds.undo, one))))


async def _job(request: Request, id: str) -> Job:
    service = service_of(request)
    return await service.reading.run(partial(service.jobs.get, id))


async def _review(request: Request, id: str) -> Job:
    one = await _job(request, id)
    if one.kind != "tag" or one.is_open:
        raise BadOption("only a review that is done can be written or taken back")
    return one


@router.get(
    "/jobs/{id}/photo",
    summary="A small picture of a photo of a review",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def review_photo(
    request: Request,
    id: str,
    number: Annotated[int, Query(ge=0, le=10**9, description="Which result.")],
) -> Response:
    """The photo of one result as a small JPEG; photos are named by their number in the results."""
    service = service_of(request)
    one = await _job(request, id)
    if one.kind not in ("tag", "folder"):
        raise BadOption("this job is not about photos of a folder")

    def draw() -> bytes:
        found = service.jobs.results(id)
        root = service.kinds.root_of(one.options["folder"])
        name = (
            ""
            if number >= len(found)
            else str(found[number].get("photo" if one.kind == "tag" else "query"))
        )
        return drawn_file(
            root / name
            if name and os.path.realpath(root / name).startswith(f"{root}{os.sep}")
            else None,
            480,
        )

    return Response(
        await service.reading.run(draw),
        media_type="image/jpeg",
        headers={"Cache-Control": "private, max-age=600"},
    )
