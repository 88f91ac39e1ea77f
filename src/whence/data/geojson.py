"""Positions from GeoJSON: a FeatureCollection of points, with the photo's name among the
properties."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whence.data.rows import WGS84, to_wgs84
from whence.errors import InvalidPoint, UnreadableTable

_WGS84_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326")


def read_features(
    text: str, *, path: Path, titles: Mapping[str, tuple[str, ...]]
) -> tuple[str, Iterator[dict[str, str] | str]]:
    """The coordinate system of a FeatureCollection, and what each feature says by field; a text is
    what is wrong with one.

    `titles` are the properties of each field, tried in order: "path" says more than "name" where a
    feature has both. Raises `UnreadableTable` for what is no FeatureCollection, or is in a
    coordinate system that is not known.
    """
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableTable(path, f"not JSON: {error.msg}", line=error.lineno) from None
    except (RecursionError, ValueError):
        raise UnreadableTable(
            path, "not GeoJSON: nested too deeply, or with numbers too long"
        ) from None
    if not isinstance(record, dict) or not isinstance(record.get("features"), list):
        raise UnreadableTable(path, "not a GeoJSON FeatureCollection")
    return _crs(record.get("crs"), path), (
        _values(feature, titles) for feature in record["features"]
    )


def _crs(crs: Any, path: Path) -> str:
    if crs is None or any(name in json.dumps(crs) for name in _WGS84_NAMES):
        return WGS84
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    try:
        to_wgs84(str(name))
    except InvalidPoint:
        reason = (
            f"its coordinate system is {json.dumps(crs)[:200]}; convert it to WGS84 longitude and "
            "latitude"
        )
        raise UnreadableTable(path, reason) from None
    return str(name)


def _values(feature: Any, titles: Mapping[str, tuple[str, ...]]) -> dict[str, str] | str:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        return "no properties"
    by_title = {
        str(title).strip().lower(): value
        for title, value in properties.items()
        if value is not None
    }
    values = {}
    for field in ("name", "heading", "time", "altitude"):
        values[field] = next(
            (str(by_title[title]).strip() for title in titles[field] if title in by_title), ""
        )
    if not values["name"]:
        return "names no photo; give it a property such as path"
    geometry = feature.get("geometry")
    if geometry is not None:
        coordinates = _coordinates(geometry) if isinstance(geometry, dict) else None
        if not isinstance(coordinates, list) or not 2 <= len(coordinates) <= 4:
            return f"({values['name']}) is not a Point"
        values["x"], values["y"] = str(coordinates[0]), str(coordinates[1])
        if len(coordinates) > 2:
            values["altitude"] = str(coordinates[2])
    return values


def _coordinates(geometry: dict[str, Any]) -> Any:
    """Those of a point, or of several points that are one, as QGIS writes layers; None for anything
    else."""
    coordinates = geometry.get("coordinates")
    if (
        geometry.get("type") == "MultiPoint"
        and isinstance(coordinates, list)
        and len(coordinates) == 1
    ):
        return coordinates[0]
    return coordinates if geometry.get("type") == "Point" else None
