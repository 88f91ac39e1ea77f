"""Routes about databases and their photos: lists, thumbnails, adding and removing."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from whence.data.geotags import Geotag, xmp_sidecar
from whence.data.thumbnails import thumbnail_jpeg
from whence.errors import BadOption, NoPhotos
from whence.geo import to_earth_centred
from whence.records import finite_values
from whence.server.open_databases import OpenDatabase, about, row_record
from whence.server.questioning import point_of
from whence.server.schemas import DatabaseRecord, Fault, Kept, PhotoList, PhotoRecord
from whence.server.service import Service, service_of
from whence.server.uploads import UploadedPhoto, keep_photo, read_photos
from whence.types import GeoPoint

router = APIRouter(
    prefix="/v1",
    responses={code: {"model": Fault} for code in (401, 403, 404, 413, 421, 422, 503, 504)},
)
MAX_LISTED = 500
Database = Annotated[
    str | None, Query(max_length=64, description="Name of the database; without it, the first.")
]


@router.get("/databases", response_model=list[DatabaseRecord], summary="The databases")
async def databases(request: Request) -> JSONResponse:
    """Each database with its number of photos, its model, and the box that holds its photos."""
    service = service_of(request)
    found = await service.reading.run(
        lambda: [about(one) for one in service.databases.by_name.values()]
    )
    return JSONResponse(finite_values(found))


@router.get("/photos", response_model=PhotoList, summary="Photos of a database")
async def photos(
    request: Request,
    database: Database = None,
    near: Annotated[
        str | None, Query(max_length=60, description="The nearest to this place first: LAT,LON.")
    ] = None,
    start: Annotated[int, Query(ge=0, le=10**9, description="How many are passed over.")] = 0,
    num: Annotated[int, Query(ge=1, le=MAX_LISTED, description="How many are listed.")] = 100,
) -> JSONResponse:
    """Photos in the database's order, or the nearest to a place first."""
    service = service_of(request)
    one = service.databases.get(database)
    point = None if near is None else point_of(near)
    return JSONResponse(
        finite_values(await service.reading.run(partial(_listed, one, point, start, num)))
    )


def _listed(database: OpenDatabase, near: GeoPoint | None, start: int, num: int) -> dict[str, Any]:
    table = database.localizer.photos
    rows = np.arange(len(table))
    if near is not None:
        rows = np.flatnonzero(table.has_point)
        here = to_earth_centred(np.array(near.lat), np.array(near.lon))
        gaps = to_earth_centred(table.lat[rows], table.lon[rows]) - here
        rows = rows[np.argsort(np.einsum("nd,nd->n", gaps, gaps), kind="stable")]
    chosen = rows[start : start + num].tolist()
    return {
        "database": database.name,
        "num_photos": len(table),
        "photos": [row_record(table, row) for row in chosen],
    }


@router.get("/photos/{id}", response_model=PhotoRecord, summary="A photo's place")
async def photo(request: Request, id: str, database: Database = None) -> JSONResponse:
    """The facts that the database knows about a photo."""
    service = service_of(request)
    one = service.databases.get(database)
    return JSONResponse(
        finite_values(
            await service.reading.run(lambda: row_record(one.localizer.photos, one.row_of(id)))
        )
    )


@router.get(
    "/photos/{id}/thumbnail",
    summary="A small picture of a photo",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def thumbnail(
    request: Request,
    id: str,
    database: Database = None,
    side: Annotated[int, Query(ge=32, le=1024, description="Pixels of the longer side.")] = 240,
) -> Response:
    """The photo as a small JPEG, drawn anew from its pixels: nothing else of its file is in it."""
    service = service_of(request)
    one = service.databases.get(database)
    data = await service.reading.run(partial(_thumbnail, one, id, side))
    return Response(
        data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


def _thumbnail(database: OpenDatabase, id: str, side: int) -> bytes:
    return drawn_file(database.localizer.photos.file(database.row_of(id)), side)


def drawn_file(file: Path | None, side: int) -> bytes:
    """A file as a small JPEG. Raises `NoPhotos` where there is none, or it cannot be read."""
    data = (
        None if file is None or not file.is_file() else _drawn(file, file.stat().st_mtime_ns, side)
    )
    if data is None:
        raise NoPhotos("the file of this photo is not there any more")
    return data


@lru_cache(maxsize=512)
def _drawn(file: Path, mtime_ns: int, side: int) -> bytes | None:
    return thumbnail_jpeg(file, long_side_px=side)


@router.post("/photos", response_model=Kept, status_code=202, summary="Add photos to a database")
async def add_photos(
    request: Request,
    photos: Annotated[
        list[UploadFile], File(description="Photos; their places are read from their own tags.")
    ],
    database: Database = None,
    lat: Annotated[
        float | None,
        Form(
            ge=-90, le=90, description="Place of all of them, where they do not say it themselves."
        ),
    ] = None,
    lon: Annotated[float | None, Form(ge=-180, le=180)] = None,
) -> JSONResponse:
    """The job that describes photos in the background, once they are kept in the service's folder.
    They are safe once this is answered."""
    service = service_of(request)
    one = service.databases.get(database)
    if (lat is None) != (lon is None):
        raise BadOption("lat and lon go together")
    point = None if lat is None or lon is None else GeoPoint(lat, lon)
    uploaded = await read_photos(photos, service.terms.limits)
    kept = [one_photo for one_photo in uploaded if isinstance(one_photo, UploadedPhoto)]
    refused = [
        {"photo": wrong.path, "reason": wrong.reason}
        for wrong in uploaded
        if not isinstance(wrong, UploadedPhoto)
    ]
    if not kept:
        raise NoPhotos(
            f"none of the photos can be read; {refused[0]['photo']}: {refused[0]['reason']}"
        )
    job = await service.reading.run(partial(_keep, service, one.name, kept, point))
    return JSONResponse(
        {"job": job, "photos": [photo.content for photo in kept], "refused": refused}, 202
    )


def _keep(
    service: Service, database: str, photos: list[UploadedPhoto], point: GeoPoint | None
) -> str:
    sidecar = None if point is None else xmp_sidecar(Geotag(point))
    for photo in photos:
        keep_photo(photo, service.kinds.photos_folder(database), sidecar=sidecar)
    return service.jobs.add(
        "add", database=database, options={"photos": [photo.content for photo in photos]}
    ).id


@router.delete("/photos/{id}", status_code=202, summary="Remove a photo from a database")
async def remove_photo(request: Request, id: str, database: Database = None) -> JSONResponse:
    """The job that takes a photo out of the database; its file goes where the service itself kept
    it, and stays where it came from a folder."""
    service = service_of(request)
    one = service.databases.get(database)

    def remove() -> str:
        one.row_of(id)
        return service.jobs.add("remove", database=one.name, options={"photos": [id]}).id

    return JSONResponse({"job": await service.reading.run(remove)}, 202)
