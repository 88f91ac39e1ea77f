"""`PostgresIndex`: rows in a table of PostgreSQL with pgvector, which a team's own SQL reaches too.

    NAME         one row a descriptor: key, descriptor vector(D), lat, lon, place, is_many
    NAME_photo   one row a photo: path, key, lat, lon, place, heading_deg, ..., by `postgres_photos`
    NAME_owner   whose the tables are

`is_many` says that photos of several places have these very bytes; `lat`, `lon` and `place` are
then empty.

An HNSW graph of half-precision copies finds candidates (inner product), scans go on until there are
enough (`iterative_scan`), and vectors come back in full precision. The password comes from
PGPASSWORD or a password file, as libpq reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption, MissingExtra
from whence.index.addresses import Address, Box, is_exact, parse_address, told
from whence.index.postgres_photos import write_photos
from whence.index.remote import RemoteIndex, Row, ServerTable

if TYPE_CHECKING:
    from psycopg import Connection

OPTIONS = ("table", "host", "ef", "ef_construction", "exact", "m")
LARGEST_DIM = 4000
"""pgvector's graphs take half vectors of so many dimensions at most."""
_LARGEST_EF = 1000
_MOST_GRAPH_BYTES = 2 << 30
"""Memory that a graph may take on the server while it is built: one that does not fit takes several
times as long."""


class PostgresTable(ServerTable):
    """The table of an address; connects when it is first needed, and anew after the server went
    away."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._connection: Connection[Any] | None = None
        self._dim = 0
        self._ef = int(address.options.get("ef", "200"))

    @contextmanager
    def _asking(self) -> Iterator[Connection[Any]]:
        """A connection whose transaction is committed, or rolled back after an error."""
        import psycopg

        try:
            if self._connection is None or self._connection.closed or self._connection.broken:
                self._connection = self._connect()
            with self._connection.transaction():
                yield self._connection
        except psycopg.Error as error:
            if self._connection is not None and self._connection.broken:
                self._connection = None
            raise told(error, self.address) from None

    def _connect(self) -> Connection[Any]:
        import psycopg
        from pgvector.psycopg import register_vector

        one = self.address
        wanted = {
            "host": one.options.get("host") or one.host or None,
            "port": one.port,
            "dbname": one.database or None,
            "user": one.user or None,
            "application_name": "whence",
        }
        held = psycopg.connect(
            **{key: value for key, value in wanted.items() if value is not None},  # type: ignore[arg-type]
            autocommit=True,
        )
        held.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(held)
        return held

    def prepare(self, dim: int, owner: str) -> str:
        """The owner of the tables, which are made in one transaction."""
        from psycopg import sql

        self._dim = dim
        names, size = self._names(), sql.Literal(dim)
        with self._asking() as held:
            held.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {table} (key text PRIMARY KEY, descriptor "
                    "vector({dim}) NOT NULL, lat double precision, lon double precision, place "
                    "point, is_many boolean NOT NULL DEFAULT false)"
                ).format(**names, dim=size)
            )
            held.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {owner} (owner text PRIMARY KEY, dim integer NOT "
                    "NULL)"
                ).format(**names)
            )
            held.execute(
                sql.SQL(
                    "INSERT INTO {owner} SELECT %s, %s WHERE NOT EXISTS (SELECT 1 FROM {owner})"
                ).format(**names),
                (owner, dim),
            )
            found = held.execute(
                sql.SQL("SELECT owner, dim FROM {owner}").format(**names)
            ).fetchone()
        assert found is not None
        if found[1] != dim:
            raise BadOption(
                f"the table {self.address.table} holds descriptors of {found[1]} numbers, not "
                f"{dim}; name another one"
            )
        return str(found[0])

    def stored_keys(self) -> Iterator[list[str]]:
        """By a cursor on the server."""
        from psycopg import sql

        with self._asking() as held, held.cursor(name="whence_keys") as cursor:
            cursor.itersize = 10_000
            cursor.execute(sql.SQL("SELECT key FROM {table}").format(**self._names()))
            while some := cursor.fetchmany(10_000):
                yield [row[0] for row in some]

    def put(
        self, keys: Sequence[str], vectors: np.ndarray, lat: np.ndarray, lon: np.ndarray
    ) -> None:
        """One transaction."""
        from psycopg import sql

        places = zip(lat.tolist(), lon.tolist(), strict=True)
        rows = [
            (
                key,
                vector,
                *(
                    (a, b, f"({b},{a})")
                    if np.isfinite(a) and np.isfinite(b)
                    else (None, None, None)
                ),
                bool(np.isinf(a)),
            )
            for key, vector, (a, b) in zip(keys, vectors, places, strict=True)
        ]
        command = sql.SQL(
            "INSERT INTO {table} (key, descriptor, lat, lon, place, is_many) VALUES (%s, %s, %s, "
            "%s, %s, %s) ON CONFLICT (key) DO UPDATE SET descriptor = excluded.descriptor, lat = "
            "excluded.lat, lon = excluded.lon, place = excluded.place, is_many = excluded.is_many"
        ).format(**self._names())
        with self._asking() as held, held.cursor() as cursor:
            cursor.executemany(command, rows)

    def put_photos(self, photos: Photos) -> None:
        """One transaction."""
        with self._asking() as held:
            write_photos(held, photos, table=self.address.table)

    def drop(self, keys: Sequence[str]) -> None:
        """One transaction."""
        from psycopg import sql

        with self._asking() as held:
            held.execute(
                sql.SQL("DELETE FROM {table} WHERE key = ANY(%s)").format(**self._names()),
                (list(keys),),
            )

    def finish(self) -> None:
        """The graph and the index of places, made once; they grow with the table from then on."""
        from psycopg import sql

        graph = {
            name: sql.Literal(int(self.address.options.get(name, usual)))
            for name, usual in (("m", "16"), ("ef_construction", "100"))
        }
        by_looks = sql.SQL(
            "CREATE INDEX IF NOT EXISTS {by_looks} ON {table} USING hnsw "
            "((descriptor::halfvec({dim})) halfvec_ip_ops) "
            "WITH (m = {m}, ef_construction = {ef_construction})"
        ).format(**self._names(), dim=sql.Literal(self._dim), **graph)
        with self._asking() as held:
            if not is_exact(self.address):
                self._make_graph(held, by_looks)
            held.execute(
                sql.SQL(
                    "CREATE INDEX IF NOT EXISTS {by_place} ON {table} USING gist (place)"
                ).format(**self._names())
            )
            held.execute(sql.SQL("ANALYZE {table}").format(**self._names()))

    def _make_graph(self, connection: Connection[Any], command: Any) -> None:
        """Build in memory where the server's usual share is too small for that; alone where workers
        cannot share as much."""
        from psycopg import errors, sql

        links = int(self.address.options.get("m", "16"))
        asked = sql.SQL(
            "SELECT count(*), pg_size_bytes(current_setting('maintenance_work_mem')) FROM {table}"
        ).format(**self._names())
        num_rows, usual = connection.execute(asked).fetchone() or (0, 0)
        # A half vector and, at the bottom, two links a neighbour and row.
        needed = min(num_rows * (2 * self._dim + 32 * links + 256), _MOST_GRAPH_BYTES)
        try:
            with connection.transaction():
                if needed > usual:
                    connection.execute(
                        sql.SQL("SET LOCAL maintenance_work_mem = {}").format(
                            sql.Literal(f"{needed >> 10}kB")
                        )
                    )
                connection.execute(command)
        except (errors.DiskFull, errors.OutOfMemory):
            connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            connection.execute(command)

    def nearest(
        self,
        query: np.ndarray,
        num: int,
        *,
        keys: Sequence[str] | None = None,
        box: Box | None = None,
    ) -> list[Row]:
        """Named keys are measured one by one, exactly; all else by the graph."""
        from pgvector import HalfVector, Vector
        from psycopg import sql

        names = self._names()
        if keys is not None:
            asked = sql.SQL(
                "SELECT key, descriptor FROM {table} WHERE key = ANY(%s) ORDER BY descriptor <#> "
                "%s LIMIT %s"
            ).format(**names)
            with self._asking() as held:
                found = held.execute(asked, (list(keys), Vector(query), num)).fetchall()
            return [_row(one) for one in found]
        where, values = _inside(box)
        # Without the cast no graph of half vectors fits, and every row is compared.
        halves = sql.SQL("descriptor::halfvec({dim})").format(dim=sql.Literal(self._dim))
        compared = sql.SQL("descriptor") if is_exact(self.address) else halves
        value = Vector(query) if is_exact(self.address) else HalfVector(query)
        asked = sql.SQL(
            "SELECT key, descriptor FROM {table} WHERE {where} ORDER BY {compared} <#> %s LIMIT %s"
        ).format(**names, where=where, compared=compared)
        with self._asking() as held:
            held.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            held.execute(
                sql.SQL("SET LOCAL hnsw.ef_search = {}").format(
                    sql.Literal(min(_LARGEST_EF, max(self._ef, 2 * num)))
                )
            )
            found = held.execute(asked, (*values, value, num)).fetchall()
        return [_row(one) for one in found]

    def erase(self) -> None:
        """All tables."""
        from psycopg import sql

        with self._asking() as held:
            held.execute(
                sql.SQL("DROP TABLE IF EXISTS {table}, {owner}, {photo}").format(**self._names())
            )

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _names(self) -> dict[str, Any]:
        from psycopg import sql

        name = self.address.table
        parts = {one: f"{name}_{one}" for one in ("owner", "photo", "by_looks", "by_place")} | {
            "table": name
        }
        return {key: sql.Identifier(value) for key, value in parts.items()}


class PostgresIndex(RemoteIndex):
    """An engine in PostgreSQL: postgresql://USER@HOST:PORT/DATABASE?table=NAME."""

    @classmethod
    def open_table(cls, address: str) -> ServerTable:
        """The table of an address. Raises `BadOption` and `MissingExtra`."""
        try:
            import pgvector  # noqa: F401
            import psycopg  # noqa: F401
        except ImportError:
            raise MissingExtra("PostgreSQL as an engine", "postgres") from None
        return PostgresTable(parse_address(address, option_names=OPTIONS))

    @classmethod
    def check(cls, *, dim: int, address: str = "") -> None:
        """Raises `BadOption` for more dimensions than pgvector searches, and for an address that is
        none."""
        parse_address(address, option_names=OPTIONS)
        if dim > LARGEST_DIM:
            raise BadOption(
                f"pgvector searches at most {LARGEST_DIM} numbers a row, not {dim}; give the "
                "model --option pca_dim=1024"
            )


def _row(row: tuple[str, Any]) -> Row:
    vector = row[1]
    return Row(
        row[0],
        np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, np.float32),
    )


def _inside(box: Box | None) -> tuple[Any, tuple[object, ...]]:
    """The condition of a box with its values."""
    from psycopg import sql

    if box is None:
        return sql.SQL("true"), ()
    one = "place <@ box(point(%s, %s), point(%s, %s))"
    if box.west <= box.east:
        return sql.SQL(f"(is_many OR {one})"), (box.west, box.south, box.east, box.north)
    return sql.SQL(f"(is_many OR {one} OR {one})"), (
        box.west,
        box.south,
        180.0,
        box.north,
        -180.0,
        box.south,
        box.east,
        box.north,
    )
