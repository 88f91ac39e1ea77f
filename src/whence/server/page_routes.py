"""The page and its files, and what machines look at: health, readiness, counters."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from whence.errors import NoPhotos
from whence.server.service import service_of
from whence.server.terms import Terms
from whence.version import VERSION
from whence.web.templates import as_script_json, render

router = APIRouter(include_in_schema=False)
STATIC_FILES = {
    "service.css": "text/css",
    "page.css": "text/css",
    "service.js": "text/javascript",
    "asking.js": "text/javascript",
    "atlas.js": "text/javascript",
    "review.js": "text/javascript",
    "shared.js": "text/javascript",
    "carried/maplibre-gl.mjs": "text/javascript",
    "carried/maplibre-gl-worker.mjs": "text/javascript",
    "carried/maplibre-gl.css": "text/css",
    "carried/countries-50m.json": "application/json",
    "carried/LICENSES.txt": "text/plain",
}

SHARED_EXPORTS = (
    b"\nexport { EARTH, base, byId, confidenceInWords, draw, isNumber, make, metres, shapesOf };\n"
)


def page_policy(terms: Terms) -> str:
    """The content policy of the page: its own files, pictures it made itself, and the tiles that
    the owner named."""
    tiles = ""
    if terms.tiles:
        scheme, _, rest = terms.tiles.partition("://")
        tiles = f" {scheme}://{rest.partition('/')[0]}"
    return (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
        f"img-src 'self' blob: data:{tiles}; connect-src 'self'{tiles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@router.get("/")
async def page(request: Request) -> Response:
    """The page. On this machine it carries its own token; elsewhere it asks for one."""
    terms = service_of(request).terms
    about = {
        "token": terms.page_token if terms.is_local else "",
        "needsToken": not terms.is_local,
        "isReadOnly": terms.is_read_only,
        "tiles": terms.tiles,
        "hasFolders": bool(terms.folders),
        "maxBytes": terms.limits.max_upload_bytes,
    }
    values = {
        "title": "Whence",
        "policy": "",
        "about": as_script_json(about),
        "version": VERSION,
        "tiles": terms.tiles,
    }
    return Response(render("service.html", values), media_type="text/html")


@router.get("/static/{name:path}")
async def static(name: str) -> Response:
    """A file of the page; only those that are listed here."""
    if name not in STATIC_FILES:
        raise NoPhotos("the page has no such file")
    return Response(
        _file(name), media_type=STATIC_FILES[name], headers={"Cache-Control": "public, max-age=600"}
    )


@cache
def _file(name: str) -> bytes:
    data = files("whence.web").joinpath(*name.split("/")).read_bytes()
    # The report joins this file into its one script, where nothing is exported.
    return data + SHARED_EXPORTS if name == "shared.js" else data


@router.get("/healthz")
async def health() -> JSONResponse:
    """That this worker answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    """Whether every database can be asked; 503 where one cannot."""
    service = service_of(request)
    wrong = await service.reading.run(service.databases.open_all)
    return JSONResponse(
        {"status": "not ready" if wrong else "ready", "databases": wrong}, 503 if wrong else 200
    )


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    service = service_of(request)
    return Response(
        await service.reading.run(service.measures.text), media_type="text/plain; version=0.0.4"
    )
