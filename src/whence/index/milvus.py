"""`MilvusIndex`: rows in a collection of a Milvus server or cluster.

Rows are upserted under their keys; an HNSW graph finds candidates by inner product, scalar fields
hold places. Every search asks for the consistency that the address names (Session if it names none:
what this program wrote is found). Credentials come from WHENCE_MILVUS_TOKEN, as USER:PASSWORD or an
API key, or the file that WHENCE_MILVUS_TOKEN_FILE names.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import BadOption, MissingExtra, StoreError
from whence.index.addresses import Address, Box, is_exact, parse_address, secret, told
from whence.index.remote import RemoteIndex, Row, ServerTable

if TYPE_CHECKING:
    from pymilvus import MilvusClient

OPTIONS = ("consistency", "ef", "ef_construction", "exact", "m", "tls")
LARGEST_DIM = 32_768
USUAL_PORT = 19_530
TIMEOUT_S = 30.0
FEW_ROWS = 4096
"""Rows that may lack a graph: of 10,000 without one every neighbour was found, of 50,000 not."""
GRAPH_S = 3600.0
"""How long the end of writing waits for the server to build its graph; it goes on after that."""
TOKEN = "WHENCE_MILVUS_TOKEN"
_LEVELS = ("Strong", "Bounded", "Session", "Eventually")
_NOWHERE, _MANY = 999.0, 998.0
"""Latitudes of rows without a place, and of several: scalars of this server know no null."""


class MilvusTable(ServerTable):
    """The collection of an address; connects when it is first needed."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._client: MilvusClient | None = None
        self._level = address.options.get("consistency", "Session")
        if self._level not in _LEVELS:
            raise BadOption(
                f"a consistency of Milvus is one of {', '.join(_LEVELS)}, not {self._level!r}"
            )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[MilvusClient]:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        token = secret(TOKEN, os.environ, lambda file: Path(file).read_text(encoding="utf-8"))
        try:
            if self._client is None:
                scheme = (
                    "https" if self.address.options.get("tls") in ("1", "true", "yes") else "http"
                )
                where = (
                    f"{scheme}://{self.address.host or '127.0.0.1'}:"
                    f"{self.address.port or USUAL_PORT}"
                )
                self._client = MilvusClient(uri=where, token=token, timeout=TIMEOUT_S)
            yield self._client
        except (MilvusException, OSError) as error:
            self.close()
            raise told(error, self.address, secrets_of=(token, *token.split(":"))) from None

    def prepare(self, dim: int, owner: str) -> str:
        """The owner of the collection, which is made with its index where there is none, and
        loaded."""
        from pymilvus import DataType

        name = self.address.table
        with self._asking() as client:
            if not client.has_collection(name):
                about = json.dumps({"whence_owner": owner})
                schema = client.create_schema(
                    auto_id=False, enable_dynamic_field=False, description=about
                )
                schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=32)
                schema.add_field("descriptor", DataType.FLOAT_VECTOR, dim=dim)
                schema.add_field("lat", DataType.DOUBLE)
                schema.add_field("lon", DataType.DOUBLE)
                client.create_collection(name, schema=schema, consistency_level=self._level)
            found = client.describe_collection(name)
            if not client.list_indexes(name):
                graph = client.prepare_index_params()
                sizes = {
                    key: int(self.address.options.get(option, usual))
                    for key, option, usual in _GRAPH
                }
                kind = (
                    {"index_type": "FLAT"}
                    if is_exact(self.address)
                    else {"index_type": "HNSW", "params": sizes}
                )
                graph.add_index("descriptor", metric_type="IP", **kind)
                client.create_index(name, graph)
            client.load_collection(name)
        there = next(
            field["params"]["dim"] for field in found["fields"] if field["name"] == "descriptor"
        )
        if int(there) != dim:
            raise BadOption(
                f"the collection {name} holds descriptors of {there} numbers, not {dim}; name "
                "another one"
            )
        try:
            return str(json.loads(found["description"])["whence_owner"])
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                self.address.text, "this collection was made by another program; name another one"
            ) from None

    def stored_keys(self) -> Iterator[list[str]]:
        """By the server's iterator over primary keys."""
        with self._asking() as client:
            found = client.query_iterator(
                self.address.table,
                batch_size=1000,
                filter='key >= ""',
                output_fields=["key"],
                consistency_level="Strong",
            )
            try:
                while some := found.next():
                    yield [row["key"] for row in some]
            finally:
                found.close()

    def put(
        self, keys: Sequence[str], vectors: np.ndarray, lat: np.ndarray, lon: np.ndarray
    ) -> None:
        """Upserted: rows of the same keys are replaced."""
        is_placed = np.isfinite(lat) & np.isfinite(lon)
        marks = np.where(np.isinf(lat), _MANY, _NOWHERE)
        places = np.where(is_placed, lat, marks).tolist(), np.where(is_placed, lon, marks).tolist()
        rows = [
            {"key": key, "descriptor": vector, "lat": a, "lon": b}
            for key, vector, a, b in zip(keys, vectors.tolist(), *places, strict=True)
        ]
        with self._asking() as client:
            client.upsert(self.address.table, rows)

    def drop(self, keys: Sequence[str]) -> None:
        """By primary key."""
        with self._asking() as client:
            client.delete(self.address.table, ids=list(keys))

    def finish(self) -> None:
        """Waits for the graph: until it is there the server searches by a makeshift one, which
        misses a tenth and more.

        Ends with a reading that waits for all that was written, so that later ones, which need not
        wait, find it too.
        """
        with self._asking() as client:
            client.flush(self.address.table)
            if not self._is_graph_built(client):
                self._wait_for_graph(client)
            client.query(
                self.address.table,
                filter='key >= ""',
                limit=1,
                output_fields=["key"],
                consistency_level="Strong",
            )

    def _wait_for_graph(self, client: MilvusClient) -> None:
        wait_until = time.monotonic() + GRAPH_S
        for is_done in (self._is_graph_built, self._is_graph_loaded):
            while not is_done(client) and time.monotonic() < wait_until:
                time.sleep(0.2)
            client.refresh_load(self.address.table)

    def _is_graph_built(self, client: MilvusClient) -> bool:
        """Whether so few rows are outside it that none are missed for that."""
        about = client.describe_index(self.address.table, "descriptor")
        return int(about.get("pending_index_rows", 0)) < FEW_ROWS

    def _is_graph_loaded(self, client: MilvusClient) -> bool:
        """Whether searches run on it, which comes a second or two after it is built; where there is
        no graph, always."""
        if is_exact(self.address):
            return True
        # The client has no public way to ask which index a loaded segment has.
        parts = client._get_connection().get_query_segment_info(self.address.table)
        return all(part.indexID for part in parts if part.num_rows >= FEW_ROWS)

    def nearest(
        self,
        query: np.ndarray,
        num: int,
        *,
        keys: Sequence[str] | None = None,
        box: Box | None = None,
    ) -> list[Row]:
        """Named keys are measured one by one, exactly; all else by the graph."""
        if keys is not None:
            with self._asking() as client:
                found = client.query(
                    self.address.table,
                    ids=list(keys),
                    output_fields=["key", "descriptor"],
                    consistency_level=self._level,
                )
            rows = [Row(one["key"], np.asarray(one["descriptor"], np.float32)) for one in found]
            return sorted(rows, key=lambda row: -float(np.vecdot(row.vector, query)))[:num]
        return self.nearest_of_many(query[None], num, box=box)[0]

    def nearest_of_many(
        self, queries: np.ndarray, num: int, *, box: Box | None = None
    ) -> list[list[Row]]:
        """One request for all queries."""
        effort = max(int(self.address.options.get("ef", "400")), 2 * num)
        with self._asking() as client:
            found = client.search(
                self.address.table,
                data=queries.tolist(),
                limit=num,
                filter=_inside(box),
                output_fields=["key", "descriptor"],
                search_params={
                    "metric_type": "IP",
                    "params": {} if is_exact(self.address) else {"ef": effort},
                },
                consistency_level=self._level,
            )
        return [[_row(hit) for hit in hits] for hits in found]

    def erase(self) -> None:
        """The collection."""
        with self._asking() as client:
            client.drop_collection(self.address.table)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close()
            self._client = None


class MilvusIndex(RemoteIndex):
    """An engine in Milvus: milvus://HOST:PORT/COLLECTION."""

    @classmethod
    def open_table(cls, address: str) -> ServerTable:
        """The collection of an address. Raises `BadOption` and `MissingExtra`."""
        try:
            import pymilvus  # noqa: F401
        except ImportError:
            raise MissingExtra("Milvus as an engine", "milvus") from None
        return MilvusTable(parse_address(address, option_names=OPTIONS))

    @classmethod
    def check(cls, *, dim: int, address: str = "") -> None:
        """Raises `BadOption` for more dimensions than Milvus takes, and for an address that is
        none."""
        parse_address(address, option_names=OPTIONS)
        if dim > LARGEST_DIM:
            raise BadOption(f"Milvus takes at most {LARGEST_DIM} numbers a row, not {dim}")


_GRAPH = (("M", "m", "16"), ("efConstruction", "ef_construction", "200"))


def _row(hit: Any) -> Row:
    entity = hit.get("entity", hit)
    return Row(str(entity["key"]), np.asarray(entity["descriptor"], np.float32))


def _inside(box: Box | None) -> str:
    """The condition of a box, of numbers alone."""
    if box is None:
        return ""
    lon = (
        f"lon >= {box.west!r} and lon <= {box.east!r}"
        if box.west <= box.east
        else f"((lon >= {box.west!r} and lon <= 180.0) or (lon >= -180.0 and lon <= {box.east!r}))"
    )
    return f"(lat == {_MANY} or (lat >= {box.south!r} and lat <= {box.north!r} and {lon}))"
