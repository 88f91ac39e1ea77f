"""The photos of a database as a table of PostgreSQL, for a team's own SQL: one row a photo, joined
to its descriptor by `key`.

    NAME_photo   path, key, lat, lon, place, heading_deg, altitude_m, taken_at, width, height

`taken_at` has a time zone where the photo says one and is read as UTC where it does not. Where the
server has PostGIS the table gets a column `geography` too; no server with it was at hand, so that
is untested.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.numbers import finite_number
from whence.data.photos import Photos

if TYPE_CHECKING:
    from psycopg import Connection

_COLUMNS = (
    ("path", "text PRIMARY KEY"),
    ("key", "text NOT NULL"),
    ("lat", "double precision"),
    ("lon", "double precision"),
    ("place", "point"),
    ("heading_deg", "real"),
    ("altitude_m", "double precision"),
    ("taken_at", "timestamptz"),
    ("width", "integer"),
    ("height", "integer"),
)
_PLAIN = tuple(name for name, _ in _COLUMNS if name != "place")


def write_photos(connection: Connection[Any], photos: Photos, *, table: str) -> None:
    """Bring the table NAME_photo to what `photos` are, in the transaction of `connection`; rows
    that are right are not touched."""
    from psycopg import sql

    names = {
        "photo": sql.Identifier(f"{table}_photo"),
        "by_place": sql.Identifier(f"{table}_photo_by_place"),
    }
    columns = sql.SQL(", ").join(
        sql.SQL(f"{{}} {kind}").format(sql.Identifier(name)) for name, kind in _COLUMNS
    )
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {photo} ({columns})").format(**names, columns=columns)
    )
    connection.execute(
        sql.SQL("CREATE INDEX IF NOT EXISTS {by_place} ON {photo} USING gist (place)").format(
            **names
        )
    )
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE whence_photos (LIKE {photo}) ON COMMIT DROP").format(
            **names
        )
    )
    plain = sql.SQL(", ").join(map(sql.Identifier, _PLAIN))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY whence_photos ({}) FROM STDIN").format(plain)) as copy,
    ):
        for row in _rows(photos):
            copy.write_row(row)
    connection.execute("UPDATE whence_photos SET place = point(lon, lat) WHERE lon IS NOT NULL")
    connection.execute(
        sql.SQL(
            "DELETE FROM {photo} AS old WHERE NOT EXISTS (SELECT 1 FROM whence_photos AS new "
            "WHERE new.path = old.path)"
        ).format(**names)
    )
    changed = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name, _ in _COLUMNS[1:]
    )
    compared = [
        sql.SQL(", ").join(sql.SQL(f"{side}.{{}}").format(sql.Identifier(one)) for one in _PLAIN)
        for side in ("old", "excluded")
    ]
    every = sql.SQL(", ").join(sql.Identifier(name) for name, _ in _COLUMNS)
    connection.execute(
        sql.SQL(
            "INSERT INTO {photo} AS old ({every}) SELECT {every} FROM whence_photos ON CONFLICT "
            "(path) DO UPDATE SET {changed} WHERE ({before}) IS DISTINCT FROM ({after})"
        ).format(**names, every=every, changed=changed, before=compared[0], after=compared[1])
    )
    if (
        connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgis'").fetchone()
        is not None
    ):
        _add_geography(connection, names["photo"], sql.Identifier(f"{table}_photo_by_geography"))


def _add_geography(connection: Connection[Any], table: Any, index: Any) -> None:
    from psycopg import sql

    connection.execute(
        sql.SQL(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS geography geography(Point, 4326) "
            "GENERATED ALWAYS AS (ST_SetSRID(ST_MakePoint(lon, lat), 4326)::geography) STORED"
        ).format(table)
    )
    connection.execute(
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING gist (geography)").format(index, table)
    )


def _rows(photos: Photos) -> Iterator[tuple[object, ...]]:
    """The values of `_PLAIN`. PostgreSQL's text holds no zero bytes; a path has none."""
    for row, photo in enumerate(photos):
        lat, lon = (None, None) if photo.point is None else (photo.point.lat, photo.point.lon)
        altitude = finite_number(np.float64(photos.columns["altitude_m"][row]))
        when = (
            None
            if photo.time is None
            else photo.time.isoformat() + ("" if photo.time.tzinfo else "+00:00")
        )
        yield (
            photo.path,
            photo.content,
            lat,
            lon,
            photo.heading_deg,
            altitude,
            when,
            photo.width or None,
            photo.height or None,
        )
