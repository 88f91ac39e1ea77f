"""What the routes share in one worker: terms, databases, lines, jobs; and how errors become
answers."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from whence.data.thumbnails import thumbnail_jpeg
from whence.errors import (
    BadOption,
    InputError,
    ModelError,
    NoPhotos,
    StoreError,
    UnknownName,
    UnreadableImage,
    UnwritableFile,
    WhenceError,
)
from whence.server.job_kinds import JobKinds
from whence.server.jobs import JobFolder, Runner
from whence.server.measures import Measures
from whence.server.open_databases import OpenDatabases
from whence.server.questioning import ask_batch
from whence.server.terms import Terms
from whence.server.waiting import RETRY_S, Busy, WaitingLine

log = logging.getLogger("whence.server")


class Service:
    """One worker of a service."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.measures = Measures()
        self.databases = OpenDatabases(terms.databases)
        self.compute = WaitingLine(terms.limits.queue, self.measures)
        self.reading = WaitingLine(
            4 * terms.limits.queue, self.measures, num_threads=2, name="reading"
        )
        self.jobs = JobFolder(terms.state, terms.limits)
        self.kinds = JobKinds(terms, self.databases, self.jobs)
        self.runner = Runner(self.jobs, self.kinds.work_of, terms.hide)

    def warm(self) -> None:
        """Open each database and ask it about a photo of its own and about noise, which stays
        unknown and gets a second look.

        So the first to ask waits no longer than others, and what is held when the service is ready
        is what it goes on to hold.
        """
        self.databases.open_all()
        noise = thumbnail_jpeg(
            np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), long_side_px=640
        )
        assert noise is not None, "pixels can be read"
        for one in self.databases.by_name.values():
            for read in (lambda photos: photos.file(0).read_bytes(), lambda photos: noise):
                with contextlib.suppress(WhenceError, OSError):
                    photos = one.localizer.photos
                    ask_batch(one, [("", read(photos))] if len(photos) else [], {})

    def close(self) -> None:
        """Finish what computes, keep what is to be done."""
        self.runner.end()
        self.compute.close()
        self.reading.close()


def service_of(request: Request) -> Service:
    """The worker that a request has come to."""
    service: Service = request.app.state.service
    return service


def add_errors(app: FastAPI) -> None:
    """Turn errors into answers: a sentence each, and nothing about the machine."""

    def answer(status: int, sentence: str, **headers: str) -> JSONResponse:
        return JSONResponse({"error": sentence}, status, headers=headers)

    async def busy(request: Request, error: Exception) -> JSONResponse:
        return answer(
            503, "many ask at once; come again in a moment", **{"Retry-After": str(RETRY_S)}
        )

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        wrong = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
            for one in error.errors()[:5]
        ]
        return answer(422, "; ".join(wrong)[:1000])

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(
            {"error": str(error.detail)[:500]}, error.status_code, headers=error.headers
        )

    async def given(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, UnreadableImage):
            return answer(422, f"cannot read {Path(error.path).name!r}: {error.reason}")
        return answer(
            404 if isinstance(error, NoPhotos | UnknownName) else 422,
            service_of(request).terms.hide(str(error)),
        )

    async def model(request: Request, error: Exception) -> JSONResponse:
        # Its message names files of this machine.
        log.warning("%s", error)
        return answer(
            409,
            (
                "this needs a model, package or calibration that the service has not; its log "
                "says which"
            ),
        )

    async def store(request: Request, error: Exception) -> JSONResponse:
        log.error("%s", error)
        return answer(503, "the database cannot be read now", **{"Retry-After": "10"})

    async def unwritable(request: Request, error: Exception) -> JSONResponse:
        log.error("%s", error)
        return answer(507, "the service cannot write to its folder")

    handlers: tuple[tuple[type[Exception], Any], ...] = (
        (Busy, busy),
        (RequestValidationError, invalid),
        (HTTPException, http),
        (InputError, given),
        (BadOption, given),
        (ModelError, model),
        (StoreError, store),
        (UnwritableFile, unwritable),
    )
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)
