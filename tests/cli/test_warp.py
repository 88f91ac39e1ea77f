"""GeoWarp on the command line: `warp`, `match`, `index --prepare-for`, `locate` and `evaluate` with
it, the report's pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.cli import run
from whence.data.pictures import WarpedPair, draw_view_pair, draw_warped_pair
from whence.index.audit import problems
from whence.index.store import Store
from whence.localize.localizer import Localizer
from whence.localize.prepare import prepare_photos
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.models.warp.model import Regressor
from whence.models.zoo import network_for
from whence.registry import get_card

NETWORK = "gem-resnet18conv4-256-pitts30k"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Scorer options that name files with random weights, the names of parameters as their authors
    have them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = network_for(get_card(NETWORK)).state_dict()
    torch.save(
        {name.replace("aggregator.p", "aggregation.1.p"): value for name, value in state.items()},
        folder / "network.pth",
    )
    torch.save(Regressor().state_dict(), folder / "regressor.pth")
    return {
        "weights": str(folder / "regressor.pth"),
        "model": NETWORK,
        "model_weights": str(folder / "network.pth"),
    }


def flags(name: str, options: dict[str, str]) -> list[str]:
    return [word for key, value in options.items() for word in (name, f"{key}={value}")]


def stated(options: dict[str, str]) -> dict[str, str]:
    return {f"scorer_options.{name}": value for name, value in options.items()}


@pytest.fixture
def database(street: Path, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:6]:
        shutil.copy(file, tmp_path / "photos")
    assert run(["index", str(tmp_path / "photos"), "--db", str(tmp_path / "c.whence"), "-q"]) == 0
    return tmp_path / "c.whence"


def test_warp_draws_the_views(
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = str(sorted((street / "database").iterdir())[0])
    monkeypatch.chdir(tmp_path)
    assert run(["warp", photo, "--k", "0.6", "--picture", "views.jpg", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record) >= {"cut_a", "cut_b", "quad_a", "quad_b", "shared"}
    assert np.abs(record["quad_a"]).max() <= 1 + 1e-5
    picture = cv2.imread(str(tmp_path / "views.jpg"))
    assert picture.shape[0] > 900
    assert run(["warp", photo]) == 0
    assert (tmp_path / f"{Path(photo).stem}-views.png").is_file()
    assert run(["warp", photo, "--k", "2"]) == 1
    assert run(["warp", "no such.jpg"]) == 1
    assert run(["warp", photo, "--picture", "no/such/folder.png"]) == 1


def test_match_with_geowarp(
    street: Path, tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    photo, other = (str(path) for path in sorted((street / "database").iterdir())[:2])
    words = [
        "match",
        photo,
        photo,
        "--scorer",
        "geowarp",
        *flags("--scorer-option", files),
        "--picture",
        str(tmp_path / "p.png"),
    ]
    assert run([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["similarity"] == pytest.approx(225, abs=0.5)
    assert record["whole_similarity"] == pytest.approx(225, abs=0.5)
    assert np.shape(record["cells"]) == (15, 15)
    assert np.allclose(record["quad0"], [(-1, -1), (1, -1), (1, 1), (-1, 1)])
    assert cv2.imread(str(tmp_path / "p.png")) is not None
    assert run([words[0], photo, other, *words[3:]]) == 0
    assert "of 225 from one viewpoint" in capsys.readouterr().out
    assert run(["match", photo, other, "--scorer", "geowrap"]) == 1
    assert "did you mean 'geowarp'" in capsys.readouterr().err
    assert run(["match", photo, other, "--scorer-option", "readout=exact"]) == 1
    assert (
        run(["match", photo, other, "--scorer", "geowarp", "--scorer-option", "weights=no.pth"])
        == 1
    )


def test_prepared_photos_are_kept_and_used(
    database: Path,
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "database",
        "prepare",
        "geowarp",
        "--db",
        str(database),
        *flags("--option", files),
        "--json",
    ]
    assert run(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["num_prepared"], first["num_known"], first["skipped"]) == (6, 0, [])
    assert run(words) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["num_prepared"], again["num_known"]) == (0, 6)
    monkeypatch.setattr(
        PreparedPhotos, "_make", lambda self, row: pytest.fail("a kept photo is made again")
    )
    with Localizer.open(database) as localizer:
        prepared = localizer.prepared(RerankOptions("geowarp", scorer_options=files))
        arrays = prepared.of_row(2)
        assert arrays is not None
        fresh = prepared.scorer.prepare(
            cv2.cvtColor(cv2.imread(str(localizer.photos.file(2))), cv2.COLOR_BGR2RGB)
        )
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            name: (array.dtype, array.shape) for name, array in fresh.items()
        }


def test_other_settings_are_kept_beside(database: Path, files: dict[str, str]) -> None:
    for extra in ({}, {"storage": "int8"}, {"readout": "exact"}):
        report = prepare_photos(
            database, options=RerankOptions("geowarp", scorer_options={**files, **extra})
        )
        assert (report.num_prepared, report.num_known) == (6, 0)
    with Store.open(database) as store:
        assert problems(store) == []


def test_photos_that_are_gone_are_skipped(database: Path, files: dict[str, str]) -> None:
    next(iter((database.parent / "photos").iterdir())).unlink()
    report = prepare_photos(database, options=RerankOptions("geowarp", scorer_options=files))
    assert report.num_prepared == 5
    assert len(report.skipped) == 1


def test_locate_with_geowarp(
    database: Path,
    street: Path,
    tmp_path: Path,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    query = str(sorted((street / "queries").iterdir())[3])
    words = [
        "locate",
        query,
        "--db",
        str(database),
        "--rerank",
        "geowarp",
        *flags("--set", stated(files)),
        "--json",
    ]
    assert run([*words, "--no-verify", "--report", str(tmp_path / "page.html")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["candidates"][0]["retrieved_rank"] is not None
    assert record["candidates"][0]["num_inliers"] is None
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count(
        "data:image/jpeg"
    ) == 1 + 1 + 5
    assert run(words) == 0
    unverified = json.loads(capsys.readouterr().out)
    assert (unverified["is_verified"], unverified["confidence"]) == (False, None)
    assert "counts no inliers" in unverified["reason"]
    assert run(["calibrate", "--db", str(database), "--scorer", "geowarp"]) == 1


def test_evaluate_with_geowarp(
    street: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        str(street),
        "--rerank",
        "geowarp",
        *flags("--set", stated({**files, "readout": "features"})),
    ]
    assert run([*words, "--set", "num_candidates=3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["order"] == "geowarp among the first 3"
    assert run([*words, "--set", "scorer_options.readout=nothing"]) == 1


def test_pictures_show_what_they_should() -> None:
    """A red image half blue: the quadrilateral of the blue half, cut out, is blue; cells from dark
    to yellow."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, :50], image[:, 50:] = (255, 0, 0), (0, 0, 255)
    whole = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    right = np.array([(0.0, -1), (1, -1), (1, 1), (0.0, 1)])
    cells = np.zeros((15, 15))
    cells[:, 8:] = 1
    drawn = draw_warped_pair(image, image, WarpedPair(right, whole, cells, 100.0), height_px=120)
    below = drawn[132:]
    assert (below[60, 10:190] == (0, 0, 255)).all()
    assert (below[60, 222:300] == (255, 0, 0)).all()
    dark, bright = below[60, 430], below[60, 600]
    assert bright.astype(int).sum() > dark.astype(int).sum() + 100
    views = draw_view_pair(
        image, cuts=(right, whole), quads=(whole, right), shared=right, height_px=120
    )
    bottom = views[-120:]
    assert (bottom[60, 30:180] == (0, 0, 255)).all()
    assert (bottom[60, 240:390] == (0, 0, 255)).all()
