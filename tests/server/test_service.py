"""The service through its own application: answers equal the library's, writes are kept, what may
not be is refused."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `server` is not installed")
from PIL import Image
from starlette.requests import Request
from starlette.testclient import TestClient

from conftest import ORIGIN, draw_place, view_of, write_photo, write_street
from hostile_inputs import hostile_inputs
from video_samples import write_video
from whence.cli import run
from whence.data.images import load_image
from whence.errors import BadOption, UnreadableTable
from whence.geo import distance_m
from whence.localize.localizer import Localizer
from whence.localize.records import position_of
from whence.server.app import make_app
from whence.server.guard import Guard
from whence.server.job_kinds import JobKinds
from whence.server.jobs import Job, JobFolder, Progress, Runner, Stopped
from whence.server.measures import Measures
from whence.server.open_databases import OpenDatabases
from whence.server.terms import (
    Limits,
    Terms,
    named_databases,
    named_folders,
    parse_size,
    read_tokens,
)
from whence.server.uploads import shown_name
from whence.types import GeoPoint

TOKEN = "a-token-of-the-tests-0123456789"
BASE = "http://127.0.0.1:8600"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street of eight places with its database, and two photos that ask."""
    root = tmp_path_factory.mktemp("street")
    write_street(root / "photos", num_places=8, shift=0, run=0)
    write_street(root / "asked", num_places=2, shift=20, run=1)
    assert run(["index", str(root / "photos"), "--db", str(root / "city.whence"), "-q"]) == 0
    return root


def terms_of(street: Path, state: Path, **changes: Any) -> Terms:
    found = Terms(
        databases={"city": str(street / "city.whence")},
        state=str(state),
        folders={"asked": str(street / "asked")},
        tokens=(TOKEN,),
        page_token="the-token-of-the-page-0123456789",
        limits=Limits(max_upload_bytes=2_000_000, max_pixels=4_000_000, max_photos=5),
    )
    return replace(found, **changes)


@pytest.fixture(scope="module")
def client(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(
        make_app(terms_of(street, tmp_path_factory.mktemp("state"))), base_url=BASE
    ) as found:
        yield found


def asked(street: Path) -> list[Path]:
    return sorted((street / "asked").rglob("*.jpg"))


def photos_form(*files: Path | bytes, name: str = "photos") -> list[tuple[str, tuple[str, bytes]]]:
    return [
        (name, ("a.jpg", one) if isinstance(one, bytes) else (one.name, one.read_bytes()))
        for one in files
    ]


def wait(client: TestClient, job: str) -> dict[str, Any]:
    for _ in range(600):
        record = client.get(f"/v1/jobs/{job}").json()
        if record["state"] not in ("queued", "running"):
            return dict(record)
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_answers_equal_the_librarys(client: TestClient, street: Path) -> None:
    files = asked(street)
    answer = client.post("/v1/locate", files=photos_form(*files), params={"k": 3})
    assert answer.status_code == 200
    with Localizer.open(street / "city.whence") as localizer:
        expected = list(localizer.locate_many(files, k=3, show_progress=False))
    for record, position in zip(answer.json()["answers"], expected, strict=True):
        found = position_of(record)
        same = ("status", "point", "radius_m", "confidence", "is_verified")
        assert [getattr(found, name) for name in same] == [getattr(position, name) for name in same]
        assert [one.photo for one in found.candidates] == [one.photo for one in position.candidates]


def test_one_wrong_photo_among_others(client: TestClient, street: Path) -> None:
    answer = client.post(
        "/v1/locate", files=photos_form(b"nonsense", asked(street)[0]), params={"verify": "false"}
    )
    first, second = answer.json()["answers"]
    assert (first["status"], first["is_readable"]) == ("unknown", False)
    assert "not a JPEG" in first["reason"]
    assert second["status"] == "located"


def test_geojson_and_filter(client: TestClient, street: Path) -> None:
    options = {
        "format": "geojson",
        "verify": "false",
        "near": f"{ORIGIN.lat},{ORIGIN.lon}",
        "within": 5000,
    }
    answer = client.post("/v1/locate", files=photos_form(*asked(street)), params=options)
    assert answer.headers["content-type"] == "application/geo+json"
    assert [feature["geometry"]["type"] for feature in answer.json()["features"]] == [
        "Point",
        "Point",
    ]
    nowhere = client.post(
        "/v1/locate",
        files=photos_form(asked(street)[0]),
        params={**options, "near": "-50,10", "format": "json"},
    )
    assert nowhere.json()["answers"][0]["candidates"] == []


def test_two_photos(client: TestClient, street: Path) -> None:
    first = asked(street)[0]
    answer = client.post("/v1/locate", files=photos_form(first)).json()["answers"][0]
    best = answer["candidates"][0]["id"]
    found = client.post(
        "/v1/match", files=photos_form(first, name="photo0"), data={"id": best, "picture": "true"}
    ).json()
    assert found["is_match"]
    assert len(found["inliers0"]) == found["num_inliers"] > 10
    assert found["picture"].startswith("data:image/jpeg;base64,")
    both = [*photos_form(first, name="photo0"), *photos_form(first, name="photo1")]
    assert client.post("/v1/match", files=both).json()["is_match"]
    warped = client.post(
        "/v1/match", files=both, data={"scorer": "geowarp", "picture": "true"}
    ).json()
    assert len(warped["quad0"]) == 4
    assert client.post("/v1/match", files=photos_form(first, name="photo0")).status_code == 422


def test_databases_photos_and_thumbnails(client: TestClient, street: Path) -> None:
    (database,) = client.get("/v1/databases").json()
    assert database["name"] == "city"
    assert database["num_photos"] >= 8
    photos = client.get(
        "/v1/photos", params={"near": f"{ORIGIN.lat},{ORIGIN.lon}", "num": 3}
    ).json()["photos"]
    gaps = [distance_m(ORIGIN, GeoPoint(one["lat"], one["lon"])) for one in photos]
    assert gaps == sorted(gaps)
    one = client.get(f"/v1/photos/{photos[0]['id']}").json()
    assert one == photos[0]
    picture = client.get(f"/v1/photos/{photos[0]['id']}/thumbnail", params={"side": 64})
    assert picture.headers["content-type"] == "image/jpeg"
    shown = Image.open(BytesIO(picture.content))
    assert max(shown.size) == 64
    assert not dict(shown.getexif())
    assert b"Exif" not in picture.content
    assert client.get("/v1/photos/0000/thumbnail").status_code == 404
    assert len(client.get("/v1/models").json()["models"]) > 50


def test_photos_are_added_described_and_removed(client: TestClient, street: Path) -> None:
    before = client.get("/v1/databases").json()[0]["num_photos"]
    photo = write_photo(street / "new.jpg", view_of(draw_place(77), shift=0, seed=1))
    place = {"lat": "55.5", "lon": "13.25"}
    assert client.post("/v1/photos", files=photos_form(photo), data=place).status_code == 401
    answer = client.post(
        "/v1/photos", files=photos_form(photo, b"junk"), data=place, headers=BEARER
    )
    assert answer.status_code == 202
    assert len(answer.json()["refused"]) == 1
    assert wait(client, answer.json()["job"])["summary"]["num_added"] == 1
    (id,) = answer.json()["photos"]
    assert client.get("/v1/databases").json()[0]["num_photos"] == before + 1, (
        "picked up without a restart"
    )
    known = client.get(f"/v1/photos/{id}").json()
    assert (known["lat"], known["lon"]) == pytest.approx((55.5, 13.25), abs=1e-6)
    asked_again = client.post("/v1/locate", files=photos_form(photo)).json()["answers"][0]
    assert asked_again["candidates"][0]["id"] == id
    removed = client.request("DELETE", f"/v1/photos/{id}", headers=BEARER)
    assert wait(client, removed.json()["job"])["summary"]["num_removed"] == 1
    assert client.get(f"/v1/photos/{id}").status_code == 404
    assert client.get("/v1/databases").json()[0]["num_photos"] == before


def test_a_folder_is_placed_and_followed(client: TestClient, street: Path) -> None:
    job = client.post(
        "/v1/jobs/folder", json={"folder": "asked", "verify": False}, headers=BEARER
    ).json()
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        states = [
            json.loads(line.removeprefix("data: "))["state"]
            for line in stream.iter_lines()
            if line.startswith("data: ")
        ]
    assert states[-1] == "done"
    assert wait(client, job["id"])["num_done"] == 2
    results = client.get(f"/v1/jobs/{job['id']}/results").json()
    assert [one["status"] for one in results["results"]] == ["located", "located"]
    gpx = client.get(f"/v1/jobs/{job['id']}/results", params={"format": "gpx"})
    assert gpx.text.count("<wpt") == 2
    picture = client.get(f"/v1/jobs/{job['id']}/photo", params={"number": 0})
    assert picture.headers["content-type"] == "image/jpeg"
    assert client.get(f"/v1/jobs/{job['id']}/photo", params={"number": 99}).status_code == 404
    assert job["id"] in [one["id"] for one in client.get("/v1/jobs").json()]


def test_a_review_writes_what_was_accepted_and_takes_it_back(street: Path, tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    write_street(folder / "tagged", num_places=4, shift=0, run=0)
    for number in (1, 2):
        write_photo(folder / f"plain{number}.jpg", view_of(draw_place(number), shift=15, seed=9))
    terms = terms_of(street, tmp_path / "state", folders={"walk": str(folder)})
    with TestClient(make_app(terms), base_url=BASE, headers=BEARER) as client:
        job = client.post("/v1/jobs/tag", json={"folder": "walk"}).json()
        assert wait(client, job["id"])["summary"]["num_missing"] == 2
        proposals = client.get(f"/v1/jobs/{job['id']}/results").json()["results"]
        assert [one["photo"] for one in proposals] == ["plain1.jpg", "plain2.jpg"]
        url = f"/v1/jobs/{job['id']}"
        for wrong in (
            {"photo": "../tagged/1.jpg", "lat": 1, "lon": 2},
            {"photo": "/etc/passwd", "lat": 1, "lon": 2},
        ):
            assert client.post(f"{url}/accepted", json={"accepted": [wrong]}).status_code == 422
        moved = {"photo": "plain2.jpg", "lat": 55.25, "lon": 13.5}
        written = client.post(f"{url}/accepted", json={"accepted": [moved]}).json()
        assert written["num_written"] == 1
        sidecar = folder / "plain2.jpg.xmp"
        assert "55,15.0000000N" in sidecar.read_text()
        assert client.get(url).json()["summary"]["can_undo"]
        assert client.post(f"{url}/undo").json() == {
            "num_removed": 1,
            "kept": [],
            "can_undo": False,
        }
        assert not sidecar.exists()
        assert client.post(f"{url}/undo").status_code == 422


def test_a_review_says_how_far_it_is_and_can_be_ended(street: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_photo(
            tmp_path / "walk" / f"plain{number}.jpg", view_of(draw_place(number), shift=15, seed=9)
        )
    terms = terms_of(street, tmp_path / "state", folders={"walk": str(tmp_path / "walk")})
    jobs, databases, noted = JobFolder(tmp_path / "state"), OpenDatabases(terms.databases), []

    class Noting(Progress):
        def note(self, num_done: int, num_total: int | None = None) -> None:
            noted.append((num_done, num_total))
            super().note(num_done, num_total)
            if num_done == 2:
                self.folder.cancel(self.job.id)

    job = jobs.add("tag", database=next(iter(terms.databases)), options={"folder": "walk"})
    with pytest.raises(Stopped):
        JobKinds(terms, databases, jobs).work_of(job)(Noting(jobs, job, threading.Event()))
    assert [one for one in noted if one[0]] == [(1, 3), (2, 3), (3, 3)]
    assert not jobs.results(job.id)


# ---- who may do what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:9999"}, 421),
        ({"Host": "LOCALHOST:8600"}, 200),
        ({"Host": "[::1]:8600"}, 200),
    ],
)
def test_only_bound_names_are_answered(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/v1/databases", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({**BEARER, "Origin": "http://evil.example"}, 403),
        ({**BEARER, "Origin": "null"}, 403),
        ({**BEARER, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**BEARER, "Origin": BASE, "Sec-Fetch-Site": "same-origin"}, 404),
        ({"Authorization": "Bearer the-token-of-the-page-0123456789"}, 404),
        (BEARER, 404),
    ],
)
def test_writing_needs_a_token_and_the_same_origin(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.request("DELETE", "/v1/photos/none", headers=headers).status_code == status


def test_a_token_in_the_address_is_none(client: TestClient) -> None:
    assert client.request("DELETE", f"/v1/photos/none?token={TOKEN}").status_code == 401


def test_from_elsewhere_reading_needs_the_token_too(street: Path, tmp_path: Path) -> None:
    terms = terms_of(street, tmp_path / "state", host="0.0.0.0", names=("photos.example",))
    with TestClient(make_app(terms), base_url="http://photos.example:8600") as client:
        for path in ("/v1/databases", "/v1/photos", "/metrics", "/v1/jobs", "/v1/models"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=BEARER).status_code == 200
        assert client.post("/v1/locate", files=photos_form(b"x")).status_code == 401
        for path in ("/healthz", "/readyz", "/", "/v1/openapi.json", "/static/service.css"):
            assert client.get(path).status_code == 200
        assert "0123456789" not in client.get("/").text, "the page is told no token here"


def test_read_only(street: Path, tmp_path: Path) -> None:
    with TestClient(
        make_app(terms_of(street, tmp_path / "state", is_read_only=True)),
        base_url=BASE,
        headers=BEARER,
    ) as client:
        assert client.post("/v1/photos", files=photos_form(b"x")).status_code == 403
        assert client.post("/v1/jobs/folder", json={"folder": "asked"}).status_code == 403
        assert client.post("/v1/locate", files=photos_form(*asked(street)[:1])).status_code == 200


def test_too_much_is_refused(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/v1/locate", files=photos_form(bytes(2_100_000))).status_code == 413
    pieces = (bytes(100_000) for _ in range(30))
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/locate", content=pieces, headers=form).status_code == 413, (
        "counted while it arrives"
    )
    assert client.post("/v1/locate", files=photos_form(*[b"x"] * 6)).status_code == 422
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    answer = client.post("/v1/locate", files=photos_form(tmp_path / "bomb.png")).json()["answers"][
        0
    ]
    assert "pixels" in answer["reason"]
    assert client.get("/v1/databases", headers={"X": "x" * 40_000}).status_code == 431


def test_hostile_files_are_answered(client: TestClient, street: Path) -> None:
    good = asked(street)[0]
    for one in hostile_inputs():
        answer = client.post(
            "/v1/locate", files=[("photos", (one.name, one.data))], params={"verify": "false"}
        )
        assert answer.status_code in (200, 413), one.name
        if answer.status_code == 200 and not one.is_readable:
            assert answer.json()["answers"][0]["status"] == "unknown", one.name
        both = [("photo0", (one.name, one.data)), *photos_form(good, name="photo1")]
        assert client.post("/v1/match", files=both).status_code in (200, 413, 422), one.name


@pytest.mark.parametrize(
    "path",
    [
        "/static/../terms.py",
        "/static/%2e%2e/%2e%2e/server/terms.py",
        "/static/carried/../../__init__.py",
        "/static//etc/passwd",
        "/v1/photos/..%2f..%2fetc%2fpasswd/thumbnail",
        "/v1/jobs/..%2flock/results",
        "/v1/jobs/%2e%2e",
    ],
)
def test_no_path_leads_to_the_disk(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


ODD_OPTIONS = (
    *(
        "rerank=/etc/passwd",
        "rerank=a:1,b:1",
        "rerank=inliers:500",
        "near=1",
        "near=91,0&within=3",
        "k=0",
        "k=x",
    ),
    *("when_unknown=../x:3", "query_mode=no", "database=../city", "min_confidence=2"),
)


@pytest.mark.parametrize("option", ODD_OPTIONS)
def test_odd_options_are_refused_with_a_sentence(
    client: TestClient, street: Path, option: str
) -> None:
    answer = client.post(f"/v1/locate?{option}", files=photos_form(asked(street)[0]))
    assert answer.status_code in (404, 422)
    assert isinstance(answer.json()["error"], str)
    assert str(street) not in answer.text


def test_a_link_that_leaves_its_folder_is_refused(street: Path, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    write_street(folder, num_places=1, shift=0, run=0)
    os.symlink(street / "photos", folder / "out")
    with TestClient(
        make_app(terms_of(street, tmp_path / "s", folders={"f": str(folder)})),
        base_url=BASE,
        headers=BEARER,
    ) as client:
        for kind in ("folder", "tag"):
            job = client.post(f"/v1/jobs/{kind}", json={"folder": "f"}).json()
            done = wait(client, job["id"])
            assert done["state"] == "failed"
            assert "link" in done["error"]
        (folder / "out").unlink()
        for file in folder.iterdir():
            file.unlink()
        done = wait(client, client.post("/v1/jobs/tag", json={"folder": "f"}).json()["id"])
        assert done["state"] == "failed"
        assert str(tmp_path) not in done["error"], "what only this machine knows is not told"


def test_names_are_never_trusted() -> None:
    assert shown_name("../../etc/passwd") == "passwd"
    assert shown_name("c:\\x\\a.jpg") == "a.jpg"
    assert shown_name("a\nb\x1b[0m.jpg") == "a\\nb\\x1b[0m.jpg"
    assert len(shown_name("x" * 500)) <= 120
    assert shown_name(None) == "photo"


def test_the_log_holds_no_place_and_no_token(
    client: TestClient, street: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("whence.server").propagate = True
    with caplog.at_level(logging.INFO, logger="whence.server"):
        client.post(
            "/v1/locate?near=55.123456,13.1&within=9",
            files=photos_form(asked(street)[0]),
            headers=BEARER,
        )
    assert re.search(r"POST /v1/locate 200 \d+ bytes in \d+ ms$", caplog.messages[-1])
    assert "55." not in caplog.text
    assert TOKEN not in caplog.text


def test_places_are_logged_where_that_was_asked_for(
    street: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("whence.server").propagate = True
    app = make_app(terms_of(street, tmp_path, logs_places=True))
    with (
        TestClient(app, base_url=BASE) as client,
        caplog.at_level(logging.INFO, logger="whence.server"),
    ):
        client.post("/v1/locate?verify=false", files=photos_form(asked(street)[0]))
    assert re.search(r" at -?\d+\.\d{6},-?\d+\.\d{6}$", caplog.messages[-1])


def test_only_named_tiles_may_be_asked(street: Path, tmp_path: Path) -> None:
    tiles = "https://tiles.example:8443/{z}/{x}/{y}.png"
    with TestClient(make_app(terms_of(street, tmp_path, tiles=tiles)), base_url=BASE) as client:
        policy = client.get("/").headers["content-security-policy"]
        assert policy.count("https://tiles.example:8443") == 2
        assert tiles in client.get("/").text


def test_a_video_is_tracked(client: TestClient, street: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")
    pictures = [load_image(file) for file in sorted((street / "photos").rglob("*.jpg"))[:3]]
    film = write_video(tmp_path / "film.mp4", (0.0, 1.0, 2.0), pictures=pictures)
    files = [("video", ("film.mp4", film.read_bytes()))]
    begun = client.post("/v1/jobs/video", files=files, data={"length": "1"}, headers=BEARER)
    assert begun.status_code == 202
    done = wait(client, begun.json()["id"])
    assert (done["state"], done["summary"]["num_frames"]) == ("done", 3)
    assert client.get(f"/v1/jobs/{done['id']}/results", params={"format": "geojson"}).json()[
        "features"
    ]
    wrong = client.post("/v1/jobs/video", files=[("video", ("film.mp4", b"junk"))], headers=BEARER)
    assert wait(client, wrong.json()["id"])["state"] == "failed"
    assert (
        client.post(
            "/v1/jobs/video", files=[("video", ("film.mp4", b""))], headers=BEARER
        ).status_code
        == 422
    )


def test_answers_carry_the_policy(client: TestClient) -> None:
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert (
        'whence_requests_total{method="GET",route="/",status="200"}' in client.get("/metrics").text
    )


def test_a_full_line_says_come_again(street: Path, tmp_path: Path) -> None:
    app = make_app(terms_of(street, tmp_path / "state", limits=Limits(queue=1)))
    service = app.app.state.service
    with TestClient(app, base_url=BASE) as client:
        gate = threading.Event()
        first = threading.Thread(target=lambda: client.portal.call(service.compute.run, gate.wait))  # type: ignore[union-attr]
        first.start()
        while not service.compute.num_waiting:
            time.sleep(0.01)
        answer = client.post("/v1/locate", files=photos_form(asked(street)[0]))
        gate.set()
        first.join()
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert client.post("/v1/locate", files=photos_form(asked(street)[0])).status_code == 200


async def _guarded(
    app: Callable[..., Any], messages: list[dict[str, Any]], terms: Terms, path: str = "/v1/locate"
) -> list[dict[str, Any]]:
    """What a guard around an application sends for a request whose body arrives as these messages,
    and then no more."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"host", b"127.0.0.1:8600")],
    }
    await Guard(app, terms, Measures(), page_policy="x")(scope, receive, send)
    return sent


def test_slow_requests_and_failures_end(
    street: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    async def sleeps(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    terms = terms_of(street, tmp_path, limits=Limits(request_seconds=0.2))
    begun = {"type": "http.request", "body": b"x", "more_body": True}
    for app, status in ((reads, 408), (sleeps, 504), (fails, 500)):
        start, body = asyncio.run(_guarded(app, [dict(begun)], terms))
        assert start["status"] == status
        assert b"secret" not in body["body"]
    assert "secret" in caplog.text or not logging.getLogger("whence.server").propagate


# ---- terms and jobs ------------------------------------------------------------------------------


def test_terms(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="token"):
        Terms({"a": "a"}, "s", host="0.0.0.0")
    with pytest.raises(BadOption, match="names"):
        Terms({"a/b": "a"}, "s")
    with pytest.raises(BadOption, match="database"):
        Terms({}, "s")
    with pytest.raises(BadOption, match="tiles"):
        Terms({"a": "a"}, "s", tiles="javascript:alert(1)")
    assert Terms({"a": "a"}, "s").hosts == {"127.0.0.1:8600", "localhost:8600", "[::1]:8600"}
    assert named_databases(["x/city.whence", "other=y.whence"]).keys() == {"city", "other"}
    with pytest.raises(BadOption, match="two"):
        named_databases(["x/city.whence", "y/city.whence"])
    assert named_folders([f"a={tmp_path}"]) == {"a": str(tmp_path.resolve())}
    for wrong in ("a", f"a={tmp_path}/none", "../x=."):
        with pytest.raises(BadOption):
            named_folders([wrong])
    assert [parse_size(text) for text in ("25M", "3k", "7")] == [25_000_000, 3000, 7]
    for wrong in ("", "0", "25 MB", "-1"):
        with pytest.raises(BadOption):
            parse_size(wrong)
    file = tmp_path / "tokens"
    file.write_text(f"# of the tests\n\n{TOKEN}\n")
    assert read_tokens(file) == (TOKEN,)
    for text in ("", "short\n", "ü" * 20):
        file.write_text(text)
        with pytest.raises(UnreadableTable) as refused:
            read_tokens(file)
        assert "short" not in str(refused.value) or "is short" in str(refused.value)


def test_a_job_whose_process_ended_goes_on(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    job = folder.add("folder")
    folder.keep(replace(job, state="running", tries=1))
    folder.append_result(job.id, {"n": 1})
    with open(tmp_path / "jobs" / f"{job.id}.jsonl", "ab") as half:
        half.write(b'{"n": 2')
    assert folder.results(job.id) == [{"n": 1}], "half a line is none"
    seen: list[Job] = []

    def work_of(one: Job) -> Callable[[Progress], dict[str, Any]]:
        seen.append(one)
        return lambda progress: {"ok": True}

    runner = Runner(folder, work_of)
    runner.start()
    for _ in range(200):
        if not folder.get(job.id).is_open:
            break
        time.sleep(0.02)
    runner.end()
    assert folder.get(job.id).state == "done"
    assert (len(seen), seen[0].tries) == (1, 1)
    other = folder.add("folder")
    folder.keep(replace(other, tries=3))
    assert folder.cancel(other.id).state == "cancelled"


def test_only_so_many_jobs(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path, Limits(max_jobs=2, max_kept_jobs=3))
    jobs = [folder.add("folder"), folder.add("folder")]
    with pytest.raises(BadOption, match="come again"):
        folder.add("folder")
    for job in jobs:
        folder.cancel(job.id)
    for _ in range(3):
        folder.cancel(folder.add("folder").id)
    assert len(folder.all()) == 3


def test_what_serve_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--db", str(tmp_path / "none.whence")]) == 1
    assert run(["serve", "--db", "a", "--host", "0.0.0.0"]) == 1
    assert "--token-file" in capsys.readouterr().err
