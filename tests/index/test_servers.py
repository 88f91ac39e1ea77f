"""Engines on real servers: one battery for PostgreSQL and Milvus, their databases, kills in the
middle of writes, and secrets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest

from servers import Server, open_server
from whence import cli
from whence.errors import BadOption, StoreError
from whence.geo import move
from whence.index import remote
from whence.index.addresses import parse_address, secret, told
from whence.index.flat import FlatIndex
from whence.index.postgres import PostgresIndex
from whence.index.remote import RemoteIndex
from whence.localize.engine import OWNER_BLOB, engine_over
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.localize.maintain import change_engine, remove_photos
from whence.localize.retrieve import Around
from whence.registry import get_entry
from whence.settings import BuildOptions
from whence.types import GeoPoint

DIM = 16


@pytest.fixture(scope="module", params=["postgres", "milvus"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    running = open_server(request.param, tmp_path_factory.mktemp(request.param) / "data")
    yield running
    running.kill()


def kind_of(address: str) -> type[RemoteIndex]:
    return get_entry("index", address).load()  # type: ignore[no-any-return]


def unit_rows(num: int, *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(num // 4 + 1, DIM)).repeat(4, axis=0)[:num] + 0.4 * random.normal(
        size=(num, DIM)
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def contents_of(num: int, *, first: int = 0) -> np.ndarray:
    return np.array([f"{number:032x}" for number in range(first, first + num)], "S32")


@pytest.fixture(scope="module")
def filled(server: Server) -> tuple[RemoteIndex, FlatIndex, np.ndarray, np.ndarray]:
    """A thousand rows under ids of their own, the same in an exact index, and queries near them."""
    address = server.address("battery")
    index, exact = RemoteIndex(kind_of(address).open_table(address)), FlatIndex()
    rows, ids = unit_rows(1000), np.random.default_rng(1).choice(9000, 1000, replace=False)
    for one in (index, exact):
        one.add(ids[:300], rows[:300])
        one.add(ids[300:], rows[300:])
    return index, exact, ids, rows[:12] + 0.05


def test_plain_questions_find_what_exact_search_finds(
    filled: tuple[RemoteIndex, FlatIndex, np.ndarray, np.ndarray],
) -> None:
    index, exact, _, queries = filled
    assert (index.num_vectors, index.dim) == (1000, DIM)
    for k in (1, 10, 100):
        found, truth = index.search(queries, k=k), exact.search(queries, k=k)
        shares = [np.isin(a, b).mean() for a, b in zip(found.ids, truth.ids, strict=True)]
        assert np.mean(shares) >= 0.99
        value_of = [
            dict(zip(ids, values, strict=True))
            for ids, values in zip(truth.ids, truth.similarities, strict=True)
        ]
        for ids, values, known in zip(
            found.ids.tolist(), found.similarities.tolist(), value_of, strict=True
        ):
            assert all(
                known.get(number, value) == value for number, value in zip(ids, values, strict=True)
            ), "values are exact"
            assert values == sorted(values, reverse=True)
    assert index.search(queries, k=5000).ids.shape == (12, 1000)
    assert index.search(np.zeros((0, DIM)), k=5).ids.shape == (0, 5)


@pytest.mark.parametrize("num_allowed", [0, 1, 40, 700, 990])
def test_filters_are_exact(
    filled: tuple[RemoteIndex, FlatIndex, np.ndarray, np.ndarray],
    num_allowed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few are named to the server; of many, found rows are looked through, and at last all are
    named in parts."""
    index, exact, _, queries = filled
    monkeypatch.setattr(remote, "MANY_ALLOWED", 200)
    monkeypatch.setattr(remote, "_LARGEST_FETCH", 100)
    # The farthest of the first query: an approximate search alone would not come to them.
    order = exact.search(queries[:1], k=1000).ids[0]
    allowed = np.sort(order[1000 - num_allowed :])
    found, truth = (
        index.search(queries, k=10, allowed=allowed),
        exact.search(queries, k=10, allowed=allowed),
    )
    assert found.ids.shape == truth.ids.shape == (12, min(10, num_allowed))
    assert np.isin(found.ids, allowed).all()
    if num_allowed <= 200:
        assert np.array_equal(found.ids, truth.ids)
        assert np.array_equal(found.similarities, truth.similarities)
    else:
        assert np.array_equal(found.ids[0], truth.ids[0])


def test_removed_rows_never_come_back(server: Server) -> None:
    address = server.address("removed")
    index = RemoteIndex(kind_of(address).open_table(address))
    rows = unit_rows(60)
    index.add(np.arange(60), rows)
    index.remove(np.array([0, 1, 2, 999]))
    assert index.num_vectors == 57
    assert not np.isin(index.search(rows[:3], k=20).ids, [0, 1, 2]).any()
    index.add(np.array([1]), rows[1:2])
    assert index.search(rows[1:2], k=1).ids.tolist() == [[1]]
    with pytest.raises(Exception, match="already in the index"):
        index.add(np.array([1]), rows[1:2])


def test_a_database_writes_what_the_server_lacks(server: Server) -> None:
    address, rows, nowhere = server.address("differences"), unit_rows(50), np.full(50, np.nan)
    written: list[int] = []
    made = kind_of(address)

    def write(chosen: slice, **more: str) -> RemoteIndex:
        written.clear()
        places = (nowhere[chosen], nowhere[chosen])
        return made.over_contents(
            rows[chosen],
            contents_of(50)[chosen],
            places,
            address=address,
            on_progress=written.append,
            **more,
        )

    first = write(slice(0, 40), owner="one")
    assert sum(written) == 40
    write(slice(0, 40), owner="one")
    assert sum(written) == 0
    second = write(slice(10, 50), owner="one")
    assert sum(written) == 10
    assert sorted(key for some in second.table.stored_keys() for key in some) == [
        key.decode() for key in contents_of(50)[10:]
    ]
    assert second.search(rows[[12]], k=1).ids.tolist() == [[2]]
    # A folder that knows of rows which are gone says so.
    with pytest.raises(StoreError, match="lacks rows"):
        first.search(rows[:1], k=40)
    with pytest.raises(StoreError, match="another database"):
        write(slice(0, 40), owner="two")
    with pytest.raises(BadOption, match="numbers"):
        made.over_contents(
            np.ones((2, 8), np.float32),
            contents_of(2),
            (nowhere[:2], nowhere[:2]),
            address=address,
            owner="one",
        )


def test_a_run_that_was_killed_before_its_graph_was_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are written then, and the next run makes what is missing all the same."""
    address, rows, nowhere = server.address("ungraphed"), unit_rows(30), np.full(30, np.nan)
    kind, contents = kind_of(address), contents_of(30)
    table = type(kind.open_table(address))
    finish, times = table.finish, []

    def write() -> RemoteIndex:
        return kind.over_contents(rows, contents, (nowhere, nowhere), address=address, owner="one")

    def killed(self: object) -> None:
        raise KeyboardInterrupt

    def counted(self: remote.ServerTable) -> None:
        times.append(self)
        finish(self)

    monkeypatch.setattr(table, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.setattr(table, "finish", counted)
    index = write()
    assert len(times) == 1
    assert sum(map(len, index.table.stored_keys())) == 30
    assert index.search(rows[[7]], k=1).ids.tolist() == [[7]]


def test_places_are_told_to_the_server(server: Server) -> None:
    """Boxes hold what they should: across the date line, rows of several places in every box, and
    those of none in no box."""
    address, rows = server.address("places"), unit_rows(40)
    centre = GeoPoint(-16.5, 179.9999)
    near = [move(centre, heading_deg=9.0 * number, distance_m=40) for number in range(36)]
    lat = np.array([one.lat for one in near] + [np.inf, np.nan, 40.0, -16.5])
    lon = np.array([one.lon for one in near] + [np.inf, np.nan, 10.0, 0.0])
    index = kind_of(address).over_contents(rows, contents_of(40), (lat, lon), address=address)
    assert (lon[:36] < 0).any()
    assert (lon[:36] > 0).any()
    box = remote.Box(*Around(centre, 100.0).box())
    assert box.west > box.east
    found = index.search(rows[:2], k=37, allowed=np.arange(37), box=box)
    assert sorted(found.ids[0].tolist()) == list(range(37))
    named = [row.key for row in index.table.nearest(rows[0], 40, box=box)]
    assert sorted(int(key, 16) for key in named) == list(range(37))
    assert len(index.table.nearest(rows[0], 40)) == 40


def test_every_row_is_compared_where_that_is_asked_for(server: Server) -> None:
    address = server.address("plain")
    address += "&exact=1" if "?" in address else "?exact=1"
    rows, nowhere = unit_rows(400, seed=5), np.full(400, np.nan)
    index = kind_of(address).over_contents(
        rows, contents_of(400), (nowhere, nowhere), address=address
    )
    queries = unit_rows(20, seed=6)
    assert np.array_equal(
        index.search(queries, k=10).ids, FlatIndex.over(rows).search(queries, k=10).ids
    )
    index.table.erase()
    index.close()


def test_killed_in_the_middle_of_writing(server: Server) -> None:
    """Nothing is lost and nothing is there twice: the next run writes the rest."""
    address, rows, nowhere = server.address("killed"), unit_rows(3000), np.full(3000, np.nan)
    made, begun = kind_of(address), threading.Event()
    failed: list[StoreError] = []

    def write() -> None:
        try:
            made.over_contents(
                rows,
                contents_of(3000),
                (nowhere, nowhere),
                address=address,
                owner="one",
                on_progress=lambda num: begun.set(),
            )
        except StoreError as error:
            failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    assert begun.wait(60)
    server.kill()
    writing.join(60)
    server.start()
    after = server.address("killed")
    index = made.over_contents(
        rows, contents_of(3000), (nowhere, nowhere), address=after, owner="one"
    )
    keys = [key for some in index.table.stored_keys() for key in some]
    assert len(keys) == len(set(keys)) == 3000
    exact = FlatIndex.over(rows)
    found, truth = index.search(rows[:20], k=10), exact.search(rows[:20], k=10)
    assert (
        np.mean([np.isin(a, b).mean() for a, b in zip(found.ids, truth.ids, strict=True)]) >= 0.99
    )
    for error in failed:
        assert "the server cannot be used" in str(error)


def test_answers_are_those_of_the_folder(server: Server, street: Path, tmp_path: Path) -> None:
    """From the first photo to the last: made, asked, grown, shrunk, moved to another engine and
    back."""
    database, address = tmp_path / "city.whence", server.address("street")
    queries = sorted((street / "queries").iterdir())[:6]
    with Localizer.build(street / "database", path=tmp_path / "plain.whence") as plain:
        options = BuildOptions(**{**plain.store.options["build"], "engine": address})
        expected = [plain.locate(query, k=8, options=RETRIEVE_ONLY) for query in queries]
        somewhere = Around(expected[0].point, 150.0)  # type: ignore[arg-type]
        nearby = [
            plain.locate(query, k=8, around=somewhere, options=RETRIEVE_ONLY) for query in queries
        ]

    def shown(positions: list) -> list:
        return [
            [(one.photo, one.similarity) for one in position.candidates] for position in positions
        ]

    with Localizer.build(street / "database", path=database, options=options) as there:
        assert isinstance(there.retriever.index, RemoteIndex)
        assert shown(
            [there.locate(query, k=8, options=RETRIEVE_ONLY) for query in queries]
        ) == shown(expected)
        assert shown(
            [there.locate(query, k=8, around=somewhere, options=RETRIEVE_ONLY) for query in queries]
        ) == shown(nearby)
        assert there.store.read_blob(OWNER_BLOB) is not None
        if isinstance(there.retriever.index, PostgresIndex):
            assert photos_there(there) == photos_here(there)
    gone = expected[0].candidates[0].photo
    remove_photos(database, [gone])
    with Localizer.open(database) as there:
        if isinstance(there.retriever.index, PostgresIndex):
            assert photos_there(there) == photos_here(there), "by difference: one is gone"
        assert gone not in [
            one.photo for one in there.locate(queries[0], k=8, options=RETRIEVE_ONLY).candidates
        ]
    assert change_engine(database, "flat") > 0
    with Localizer.open(database) as back:
        assert not isinstance(back.retriever.index, RemoteIndex)
    assert cli.run(["database", "copy-to", address, "--db", str(database)]) == 0
    with Localizer.open(database) as there:
        assert isinstance(there.retriever.index, RemoteIndex)
        assert len(there.locate(queries[1], k=8, options=RETRIEVE_ONLY).candidates) == 8
        table = there.retriever.index.table
        table.erase()
        table.close()


def photos_there(localizer: Localizer) -> list[tuple]:
    """What a team's own SQL finds of a database's photos, with the descriptor that each is joined
    to."""
    table = localizer.retriever.index.table  # type: ignore[union-attr]
    command = (
        "SELECT path, key, street_photo.place[1], street_photo.place[0], heading_deg, taken_at, "
        "width, height, "
        "vector_dims(descriptor) FROM street_photo LEFT JOIN street USING (key) ORDER BY path "
        'COLLATE "C"'
    )
    with table._asking() as held:
        return held.execute(command).fetchall()


def photos_here(localizer: Localizer) -> list[tuple]:
    found = []
    for one in sorted(localizer.photos, key=lambda one: one.path):
        when = (
            None
            if one.time is None
            else one.time
            if one.time.tzinfo
            else one.time.replace(tzinfo=UTC)
        )
        place = (None, None) if one.point is None else (one.point.lat, one.point.lon)
        found.append(
            (
                one.path,
                one.content,
                *place,
                one.heading_deg,
                when,
                one.width,
                one.height,
                localizer.store.dim,
            )
        )
    return found


def test_addresses_hold_no_secrets() -> None:
    for text in ("milvus://me:hidden@host/x", "postgresql://me:hidden@host/db"):
        with pytest.raises(BadOption, match="no password") as refused:
            parse_address(text, option_names=())
        assert "hidden" not in str(refused.value)
    with pytest.raises(BadOption, match="no option 'x'"):
        parse_address("milvus://host/t?x=1", option_names=("ef",))
    with pytest.raises(BadOption, match="table's name"):
        parse_address('milvus://host/a"b', option_names=())
    one = parse_address("postgresql://me@host:77/db?table=rows", option_names=("table",))
    assert (one.host, one.port, one.user, one.database, one.table) == (
        "host",
        77,
        "me",
        "db",
        "rows",
    )
    assert "hidden" not in str(
        told(ValueError("token hidden is wrong\nand more"), one, secrets_of=("hidden",))
    )
    assert "and more" not in str(told(ValueError("first\nand more"), one))
    assert secret("A", {"A": "x"}, read=str) == "x"
    assert secret("A", {"A_FILE": "/f"}, read=lambda file: f"in {file}\n") == "in /f"
    assert secret("A", {}, read=str) == ""


@pytest.mark.parametrize(
    "address", ["postgresql://nobody@127.0.0.1:9/none?table=t", "milvus://127.0.0.1:9/none"]
)
def test_a_server_that_is_not_there_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymilvus" if address.startswith("milvus") else "psycopg")
    monkeypatch.setenv("WHENCE_MILVUS_TOKEN", "me:hidden")
    monkeypatch.setenv("PGPASSWORD", "hidden")
    monkeypatch.setattr("whence.index.milvus.TIMEOUT_S", 1)
    started = time.monotonic()
    with pytest.raises(StoreError, match="the server cannot be used") as said:
        RemoteIndex(kind_of(address).open_table(address), dim=4).add(np.arange(2), np.eye(2, 4))
    assert "hidden" not in str(said.value)
    assert time.monotonic() - started < 60


def test_an_engine_on_a_server_is_for_databases() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BadOption, match="for databases"):
        engine_over(np.eye(3), engine="postgresql://host/db", is_searchable=np.ones(3, bool))
    with pytest.raises(BadOption, match="at most 4000"):
        kind_of("postgresql://host/db").check(dim=5000, address="postgresql://host/db")


def test_a_graph_is_built_alone_where_workers_cannot_share_its_memory() -> None:
    pytest.importorskip("pgvector")
    psycopg = pytest.importorskip("psycopg")
    from whence.index.postgres import PostgresTable

    class Held:
        """A connection to a server whose shared memory is small."""

        def __init__(self) -> None:
            self.said: list[str] = []

        def execute(self, command: object) -> Held:
            self.said.append(command if isinstance(command, str) else command.as_string(None))  # type: ignore[attr-defined]
            if (
                self.said[-1] == "CREATE"
                and "SET LOCAL max_parallel_maintenance_workers = 0" not in self.said
            ):
                raise psycopg.errors.DiskFull("could not resize shared memory segment")
            return self

        def fetchone(self) -> tuple[int, int]:
            return 1_000_000, 64 << 20

        def transaction(self) -> contextlib.AbstractContextManager[None]:
            return contextlib.nullcontext()

    held, table = Held(), PostgresTable(parse_address("postgresql://host/db", option_names=()))
    table._dim = 256
    table._make_graph(held, psycopg.sql.SQL("CREATE"))  # type: ignore[arg-type]
    assert held.said[1:] == [
        "SET LOCAL maintenance_work_mem = '1250000kB'",
        "CREATE",
        "SET LOCAL max_parallel_maintenance_workers = 0",
        "CREATE",
    ]
