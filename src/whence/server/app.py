"""The service as an ASGI application: routes, errors, and the guard around them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from whence.runtime import num_cores, set_threads
from whence.server import asking_routes, job_routes, page_routes, photo_routes
from whence.server.guard import Guard
from whence.server.service import Service, add_errors
from whence.server.terms import Terms
from whence.settings import load_settings
from whence.version import VERSION

_DESCRIPTION = (
    "Where were photos taken? Reading is free on the service's own machine; writing needs a token "
    "(`Authorization: Bearer`)."
)


def make_app(terms: Terms, *, parent: int = 0) -> Guard:
    """The application of one worker. `parent`: the process it ends with, where it is one of
    several."""
    # Nothing a request names is ever fetched.
    os.environ["WHENCE_OFFLINE"] = "1"
    service = Service(terms)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        set_threads(load_settings().threads or max(1, num_cores() // terms.workers))
        if parent:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        await service.compute.run(service.warm)
        service.runner.start()
        yield
        app.state.is_ending = True
        service.close()

    app = FastAPI(
        title="Whence",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=living,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.num_streams, app.state.is_ending = service, 0, False
    add_errors(app)
    for room in (asking_routes, photo_routes, job_routes, page_routes):
        app.include_router(room.router)
    return Guard(app, terms, service.measures, page_policy=page_routes.page_policy(terms))


def _end_with(parent: int) -> None:
    """End this worker, its work finished, when the process that began it is gone."""
    is_gone = threading.Event()
    while os.getppid() == parent:
        is_gone.wait(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
