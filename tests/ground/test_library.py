"""The library as one uses it in a notebook: pictures as queries, answers as plain values, and
objects that print short."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import whence
from conftest import draw_place, view_of
from whence import cli
from whence.data.images import as_source, load_image
from whence.errors import BadOption, UnreadableImage
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.types import BestGuess, Candidate, GeoPoint, Match, Position

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def database(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of a few photos of the street. Tests must not change it."""
    root = tmp_path_factory.mktemp("library")
    (root / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:8]:
        shutil.copy(file, root / "photos")
    assert cli.run(["index", str(root / "photos"), "--db", str(root / "c.whence"), "-q"]) == 0
    return root / "c.whence"


def pictures(pixels: np.ndarray) -> dict[str, object]:
    """One photo as everything that may be asked with."""
    image = Image.fromarray(pixels)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    transparent = image.convert("RGBA")
    palette = image.quantize(255)
    return {
        "pixels": pixels,
        "Pillow": image,
        "turned by EXIF": Image.open(io.BytesIO(file.getvalue())),
        "RGBA of Pillow": transparent,
        "RGBA pixels": np.asarray(transparent),
        "grey of Pillow": image.convert("L"),
        "grey pixels": np.asarray(image.convert("L")),
        "grey with a channel": np.asarray(image.convert("L"))[..., None],
        "CMYK": image.convert("CMYK"),
        "palette": palette,
        "16 bits": np.asarray(image.convert("L")).astype(np.uint16) * 257,
    }


@pytest.mark.parametrize("kind", list(pictures(np.zeros((4, 6, 3), np.uint8))))
def test_pictures_are_queries(database: Path, kind: str) -> None:
    pixels = view_of(draw_place(3), shift=25, seed=1)
    query = pictures(pixels)[kind]
    with Localizer.open(database) as localizer:
        position = localizer.locate(query, options=RETRIEVE_ONLY)  # type: ignore[arg-type]
    assert "0003r0" in position.candidates[0].photo
    source = as_source(query)  # type: ignore[arg-type]
    assert isinstance(source, np.ndarray)
    assert (source.dtype, source.shape) == (np.dtype(np.uint8), pixels.shape)
    if kind in ("Pillow", "RGBA of Pillow", "turned by EXIF"):
        assert np.array_equal(source, pixels)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (Image.fromarray(np.zeros((4, 4), np.float32)), UnreadableImage),
        (np.zeros((4, 4), np.float32), BadOption),
        (np.zeros((0, 4, 3), np.uint8), BadOption),
        (3, BadOption),
        (None, BadOption),
    ],
)
def test_what_is_no_picture_is_refused(
    database: Path, query: object, error: type[Exception]
) -> None:
    with Localizer.open(database) as localizer, pytest.raises(error):
        localizer.locate(query)  # type: ignore[arg-type]


POSITION = Position(
    "q.jpg",
    "unknown",
    candidates=(
        Candidate(
            "a.jpg",
            1,
            0.5,
            point=GeoPoint(1.0, 2.0),
            num_inliers=7,
            confidence=0.1,
            retrieved_rank=3,
        ),
        Candidate("b.jpg", 2, float("nan")),
    ),
    seconds={"search": 0.123456},
    reason="too few",
    best_guess=BestGuess("a.jpg", GeoPoint(1.0, 2.0), radius_m=9.0, confidence=0.1),
)


def test_positions_as_plain_values() -> None:
    record = POSITION.to_dict()
    assert record["position"] is None
    assert record["best_guess"] == {
        "photo": "a.jpg",
        "lat": 1.0,
        "lon": 2.0,
        "radius_m": 9.0,
        "confidence": 0.1,
    }
    assert record["candidates"][0] == POSITION.candidates[0].to_dict()
    assert record["candidates"][0]["num_inliers"] == 7
    assert record["candidates"][1]["similarity"] is None, "JSON has no NaN"
    assert json.loads(POSITION.to_json()) == record
    assert "\n" not in POSITION.to_json()
    located = replace(
        POSITION,
        status="located",
        point=GeoPoint(3.0, 4.0),
        radius_m=5.0,
        heading_deg=6.0,
        best_guess=None,
    )
    assert located.to_dict()["position"] == {
        "lat": 3.0,
        "lon": 4.0,
        "radius_m": 5.0,
        "heading_deg": 6.0,
    }
    assert located.to_dict()["best_guess"] is None


def test_the_command_line_prints_the_same(database: Path, street: Path, capsys: Capture) -> None:
    query = sorted((street / "queries").iterdir())[2]
    assert cli.run(["locate", str(query), "--db", str(database), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    with Localizer.open(database) as localizer:
        position = localizer.locate(query)
    assert printed | {"seconds": {}} == json.loads(position.to_json()) | {"seconds": {}}
    assert printed["seconds"].keys() == position.seconds.keys()


def test_objects_print_short(database: Path) -> None:
    many = Position(
        "q.jpg",
        "located",
        GeoPoint(59.3, 18.0),
        12.0,
        confidence=0.9,
        candidates=POSITION.candidates * 50,
    )
    points = np.zeros((500, 2))
    match = Match(points, points, np.ones(500, bool), "homography", np.eye(3), (9, 9), (9, 9))
    with Localizer.open(database) as localizer:
        shown = {
            repr(many): ("q.jpg", "located", "59.3", "12 m", "100 candidates"),
            repr(POSITION.candidates[0]): ("a.jpg", "0.5", "7 inliers"),
            repr(match): ("500 inliers", "homography"),
            repr(localizer): ("8 photos", "whence-lite0-words-960"),
            repr(localizer.photos): ("8", "with a place"),
            repr(whence.load_model("rootsift-vlad")): ("rootsift-vlad", "8192"),
        }
    for text, words in shown.items():
        assert len(text) < 200, text
        assert all(word in text for word in words), text


def test_unknown_answers_show_the_best_guess(
    database: Path, street: Path, tmp_path: Path, capsys: Capture
) -> None:
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(tmp_path / f"strange {number}.png")
    cli.run(["locate", str(tmp_path), "--db", str(database), "--json"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["status"] for record in records} == {"unknown"}
    cli.run(["locate", str(tmp_path), "--db", str(database)])
    table = " ".join(capsys.readouterr().out.split())
    cli.run(["locate", str(tmp_path / "strange 0.png"), "--db", str(database)])
    alone = capsys.readouterr().out
    for record in records:
        assert record["best_guess"] is not None
        assert f"{record['best_guess']['lat']:.6f}" in table
    assert table.count("best guess, not an answer") == 2
    assert "best guess, not an answer" in alone


def test_the_limit_of_pixels_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30)).save("a.png")
    monkeypatch.setenv("WHENCE_MAX_PIXELS", "1199")
    with pytest.raises(UnreadableImage, match="max_pixels"):
        load_image("a.png")
    assert load_image("a.png", max_pixels=1200).shape == (30, 40, 3)
    monkeypatch.setenv("WHENCE_MAX_PIXELS", "1200")
    assert load_image("a.png").shape == (30, 40, 3)
    monkeypatch.delenv("WHENCE_MAX_PIXELS")
    (tmp_path / "whence.toml").write_text("max_pixels = 1000\n")
    assert cli.run(["index", "a.png", "--db", "c.whence"]) == 1
    (tmp_path / "whence.toml").write_text("max_pixels = 1200\n")
    assert cli.run(["index", "a.png", "--db", "c.whence"]) == 0
