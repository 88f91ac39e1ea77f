"""Routes that ask: where photos were taken, what two photos share, which models there are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse

from whence.data.elsewhere import is_there
from whence.data.images import load_resized
from whence.data.pictures import draw_match, draw_warped_pair
from whence.data.thumbnails import thumbnail_uri
from whence.errors import BadOption, NoPhotos, UnreadableImage
from whence.localize.pairs import match_record, warp_pair, warp_record
from whence.localize.records import as_geojson, position_of
from whence.matching.matchers import MatchOptions, match_images
from whence.models.checkpoints.origins import weights_status
from whence.records import finite_values
from whence.registry import MATCHERS, SCORERS, get_card, list_models
from whence.server.open_databases import OpenDatabase
from whence.server.questioning import ask_batch, unreadable
from whence.server.schemas import EXAMPLE_ANSWER, Answers, Fault, Options
from whence.server.service import Service, service_of
from whence.server.uploads import UploadedPhoto, read_photo, read_photos

router = APIRouter(
    prefix="/v1",
    responses={
        code: {"model": Fault} for code in (401, 403, 404, 408, 409, 413, 421, 422, 503, 504)
    },
)
PICTURE_PX = 1600
_PLACE = {"type": "Point", "coordinates": [13.1881, 55.7051]}
_GEOJSON = {
    "type": "FeatureCollection",
    "features": [{"type": "Feature", "geometry": _PLACE, "properties": {"query": "a.jpg"}}],
}
_LOCATED = {
    "application/json": {"example": {"database": "city", "answers": [EXAMPLE_ANSWER]}},
    "application/geo+json": {"example": _GEOJSON},
}


@router.post(
    "/locate",
    response_model=Answers,
    summary="Where were these photos taken?",
    responses={200: {"content": _LOCATED}},
)
async def locate(
    request: Request,
    options: Annotated[Options, Depends()],
    photos: Annotated[list[UploadFile], File(description="One or many photos.")],
    format: Annotated[
        Literal["json", "geojson"], Query(description="geojson: located photos as points.")
    ] = "json",
) -> JSONResponse:
    """Answers to photos, as of `whence locate`: with a place, with the photo that shows it, or with
    "unknown"."""
    service = service_of(request)
    database = service.databases.get(options.database)
    uploaded = await read_photos(photos, service.terms.limits)
    records = await service.compute.run(partial(_ask_all, database, uploaded, options.values))
    for record in records:
        service.measures.photos.labels(record["status"]).inc()
        place = record["position"]
        request.scope["whence_places"].append(
            "unknown" if place is None else f"{place['lat']:.6f},{place['lon']:.6f}"
        )
    if format == "geojson":
        return JSONResponse(
            as_geojson(map(position_of, records)), media_type="application/geo+json"
        )
    return JSONResponse(finite_values({"database": database.name, "answers": records}))


def _ask_all(
    database: OpenDatabase, uploaded: list[UploadedPhoto | UnreadableImage], values: dict[str, Any]
) -> list[dict[str, Any]]:
    readable = [one for one in uploaded if isinstance(one, UploadedPhoto)]
    answers = iter(ask_batch(database, [(one.name, one.data) for one in readable], values))
    return [
        next(answers) if isinstance(one, UploadedPhoto) else unreadable(one.path, one)
        for one in uploaded
    ]


@router.post("/match", summary="What do two photos share?")
async def match(
    request: Request,
    photo0: Annotated[UploadFile, File(description="The first photo.")],
    photo1: Annotated[
        UploadFile | None, File(description="The second photo; or name one of a database.")
    ] = None,
    id: Annotated[
        str | None, Form(max_length=64, description="Id of a database photo instead of `photo1`.")
    ] = None,
    database: Annotated[str | None, Form(max_length=64)] = None,
    scorer: Annotated[
        str, Form(max_length=60, description="inliers, or one that warps: geowarp.")
    ] = "inliers",
    matcher: Annotated[
        str, Form(max_length=60, description="What pairs points, with inliers.")
    ] = "rootsift-mnn",
    picture: Annotated[
        bool, Form(description="Add a picture of what was found, as a JPEG data URI.")
    ] = False,
) -> JSONResponse:
    """Two photos compared, as by `whence match`: shared points with their geometry, or the parts
    that GeoWarp finds the same."""
    service = service_of(request)
    if (photo1 is None) == (id is None):
        raise BadOption("send photo1, or name a database photo by its id")
    if matcher not in MATCHERS:
        raise BadOption(
            "there is no matcher of this name; /v1/models lists them: "
            f"{', '.join(sorted(MATCHERS)[:6])}, ..."
        )
    if scorer != "inliers" and scorer not in SCORERS:
        raise BadOption(
            "there is no scorer of this name; /v1/models lists them: "
            f"{', '.join(sorted(SCORERS)[:6])}, ..."
        )
    first = await read_photo(photo0, service.terms.limits)
    second = None if photo1 is None else await read_photo(photo1, service.terms.limits)
    record = await service.compute.run(
        partial(_compare, service, first, second, (database, id or ""), scorer, matcher, picture)
    )
    return JSONResponse(finite_values(record))


def _compare(
    service: Service,
    first: UploadedPhoto,
    second: UploadedPhoto | None,
    names: tuple[str | None, str],
    scorer: str,
    matcher: str,
    draws: bool,
) -> dict[str, Any]:
    if second is None:
        one = service.databases.get(names[0])
        photos, row = one.localizer.photos, one.row_of(names[1])
        file = photos.file(row)
        if not is_there(file):
            raise NoPhotos("the file of this photo is not there any more")
        other: Path | bytes = file
        name = photos.paths[row]
    else:
        other, name = second.data, second.name
    record: dict[str, Any] = {"photo0": first.name, "photo1": name, "scorer": scorer}
    image0, image1 = (
        (load_resized(source, long_side_px=800) for source in (first.data, other))
        if draws
        else (None, None)
    )
    if scorer == "inliers":
        found = match_images(
            first.data, other, options=MatchOptions(matcher=matcher, is_upright=True)
        )
        record |= {"matcher": matcher, **match_record(found)}
        drawn = (
            draw_match(image0, image1, found) if image0 is not None and image1 is not None else None
        )
    else:
        pair = warp_pair(scorer, first.data, other)
        record |= warp_record(pair)
        drawn = (
            draw_warped_pair(image0, image1, pair)
            if image0 is not None and image1 is not None
            else None
        )
    return (
        record
        if drawn is None
        else {**record, "picture": thumbnail_uri(drawn, long_side_px=PICTURE_PX)}
    )


@router.get("/models", summary="Models, scorers and matchers")
async def models(request: Request) -> JSONResponse:
    """Names with what they are, their licences, and whether their weights are on the service's
    machine."""

    def read() -> dict[str, Any]:
        kinds = {
            "model": list_models(),
            "scorer": tuple(sorted(SCORERS)),
            "matcher": tuple(sorted(MATCHERS)),
        }
        found = {}
        for kind, names in kinds.items():
            cards = [get_card(name, kind=kind) for name in names]
            found[f"{kind}s"] = [
                {
                    **{"name": name, "summary": card.summary, "dim": card.dim or None},
                    **{
                        "licence": card.licence,
                        "weights_licence": card.weights_licence,
                        "state": weights_status(card),
                    },
                }
                for name, card in zip(names, cards, strict=True)
            ]
        return found

    return JSONResponse(await service_of(request).reading.run(read))
