"""Databases for hloc and from it: files in its format, looked at with h5py, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from descriptor_samples import CARD, NAME, MeanColours
from whence.cli import run
from whence.data.feature_files import (
    PairMatches,
    PhotoDescriptor,
    PhotoKeypoints,
    read_descriptors,
    read_keypoints,
    read_matches,
    write_descriptors,
    write_keypoints,
    write_matches,
)
from whence.data.images import image_header
from whence.errors import UnreadableTable
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.registry import KINDS, register

h5py = pytest.importorskip("h5py")
MODEL = NAME


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """A descriptor that is not fitted, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KINDS["model"], "_rows", dict(KINDS["model"]))
        register("model", NAME, lambda **_: MeanColours(), card=CARD)
        yield


@pytest.fixture(scope="module")
def database(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hloc") / "a.whence"
    asked = ["index", str(street / "database"), "--db", str(path), "--model", MODEL]
    assert run([*asked, "-q", "--no-calibrate"]) == 0
    assert run(["database", "prepare", "inliers", "--db", str(path), "-q"]) == 0
    return path


def test_a_database_goes_out_and_comes_back(
    street: Path, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(file.name for file in (street / "database").iterdir())
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{names[0]} {names[1]}\n{names[1]} {names[0]}\n{names[0]} {names[2]}\n")
    words = [
        "database",
        "export",
        str(tmp_path / "out"),
        "--db",
        str(database),
        "--for",
        "hloc",
        "--json",
    ]
    assert run([*words, "--root", str(street / "database"), "--pairs", str(pairs)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["num_descriptors"] == record["num_positions"] == len(names)
    assert record["num_matches"] == 2
    with h5py.File(tmp_path / "out" / "global-descriptors.h5") as table:
        assert sorted(table) == names
        assert table[names[0]]["global_descriptor"].shape == (CARD.dim,)
        assert table[names[0]]["global_descriptor"].dtype == np.float32
        assert table[names[0]]["image_size"][()].tolist() == list(
            image_header(street / "database" / names[0])[:2]
        )
    lines = (tmp_path / "out" / "positions.txt").read_text().splitlines()
    assert len(lines) == len(names)
    with Localizer.open(database) as localizer:
        place = {Path(one.path).name: one.point for one in localizer.photos}
        for line in lines:
            name, lat, lon, _ = line.split()
            point = place[name]
            assert point is not None
            assert (float(lat), float(lon)) == pytest.approx((point.lat, point.lon), abs=1e-8)
    made = [
        "database",
        "import",
        str(tmp_path / "out" / "global-descriptors.h5"),
        "--db",
        str(tmp_path / "b.whence"),
    ]
    assert run([*made, "--photos", str(street / "database"), "--model", MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"] == len(names)
    query = min((street / "queries").iterdir())
    with Localizer.open(database) as first, Localizer.open(tmp_path / "b.whence") as second:
        ours, theirs = (one.locate(query, options=RETRIEVE_ONLY) for one in (first, second))
        assert [Path(one.photo).name for one in ours.candidates] == [
            Path(one.photo).name for one in theirs.candidates
        ]
        assert [one.similarity for one in ours.candidates] == pytest.approx(
            [one.similarity for one in theirs.candidates], abs=1e-5
        )
        assert second.photos.file(theirs.candidates[0].row).is_file()


def test_kept_keypoints_and_their_matches(
    street: Path, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(file.name for file in (street / "database").iterdir())[:2]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{names[0]} {names[1]}\n")
    words = [
        "database",
        "export",
        str(tmp_path),
        "--db",
        str(database),
        "--for",
        "hloc",
        "--root",
        str(street / "database"),
    ]
    assert run([*words, "--pairs", str(pairs), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    if not record["num_keypoints"]:
        pytest.fail("keypoints were asked for and are not kept")
    found = {one.name: one for one in read_keypoints(tmp_path / "keypoints.h5")}
    first, second = found[names[0]], found[names[1]]
    with h5py.File(tmp_path / "keypoints.h5") as table:
        group = table[names[0]]
        assert group["descriptors"].shape == (first.descriptors.shape[1], len(group["keypoints"]))
        assert len(group["scores"]) == len(group["keypoints"]) > 10
    assert first.size_px is not None
    assert (first.keypoints.max(axis=0) < first.size_px).all()
    assert np.allclose(np.linalg.norm(first.descriptors, axis=1), 1, atol=1e-3)
    (pair,) = read_matches(tmp_path / "matches.h5", [(names[0], names[1])])
    # The slow definition: mutual nearest neighbours of which the second nearest is clearly farther.
    distances = np.linalg.norm(first.descriptors[:, None] - second.descriptors[None], axis=2)
    for row, column in pair.rows.tolist():
        assert distances[row].argmin() == column or distances[row].min() == pytest.approx(
            distances[row, column], abs=1e-4
        )
        assert distances[:, column].min() == pytest.approx(distances[row, column], abs=1e-4)
    (turned,) = read_matches(tmp_path / "matches.h5", [(names[1], names[0])])
    assert np.array_equal(turned.rows, pair.rows[:, ::-1])


def test_names_and_options_that_do_not_fit(
    street: Path, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a.jpg b.jpg\n")
    out = ["database", "export", str(tmp_path / "out"), "--db", str(database)]
    shared = ["database", "import", str(tmp_path / "no.h5"), "--db", str(tmp_path / "c.whence")]
    for words, said in (
        ([*out, "--for", "hloc", "--root", str(street / "queries")], "does not lie under"),
        ([*out, "--for", "hloc", "--root", str(street), "--pairs", str(pairs)], "a.jpg"),
        ([*out, "--for", "lamar"], "hloc"),
        ([*out, "--root", str(street)], "--for hloc"),
        (shared, "--photos"),
        ([*shared, "--photos", str(street / "database"), "--model", MODEL], "HDF5"),
        ([*shared, "--photos", str(street / "database"), "--model", "rootsift-vlad"], "fitted"),
    ):
        assert run(words) == 1
        assert said in capsys.readouterr().err
    write_descriptors(tmp_path / "no.h5", [PhotoDescriptor("x/y.jpg", np.ones(3))])
    assert run([*shared, "--photos", str(street / "database"), "--model", MODEL]) == 1
    assert "x/y.jpg" in capsys.readouterr().err
    name = min(file.name for file in (street / "database").iterdir())
    write_descriptors(tmp_path / "no.h5", [PhotoDescriptor(name, np.ones(3))])
    assert run([*shared, "--photos", str(street / "database"), "--model", MODEL]) == 1
    assert "dimensions" in capsys.readouterr().err


def test_files_as_hloc_writes_them(tmp_path: Path) -> None:
    """The layout written with h5py alone: half precision, nested names, descriptors in columns."""
    rng = np.random.default_rng(3)
    keypoints, descriptors = rng.uniform(0, 640, (7, 2)), rng.normal(size=(5, 7))
    with h5py.File(tmp_path / "feats.h5", "w") as table:
        group = table.create_group("db/a b.jpg")
        group["keypoints"], group["descriptors"] = (
            keypoints.astype(np.float16),
            descriptors.astype(np.float16),
        )
        group["scores"], group["image_size"] = (
            np.linspace(0, 1, 7).astype(np.float16),
            np.array([640, 480]),
        )
        table.create_group("q.jpg")["global_descriptor"] = np.arange(4, dtype=np.float16)
    (one,) = read_keypoints(tmp_path / "feats.h5")
    assert (one.name, one.size_px) == ("db/a b.jpg", (640, 480))
    assert np.allclose(one.descriptors, descriptors.T, atol=1e-2)
    (other,) = read_descriptors(tmp_path / "feats.h5")
    assert (other.name, other.descriptor.tolist()) == ("q.jpg", [0, 1, 2, 3])
    with h5py.File(tmp_path / "matches.h5", "w") as table:
        group = table.create_group("db-a.jpg/q.jpg")
        group["matches0"], group["matching_scores0"] = (
            np.array([-1, 4, -1, 0], np.int16),
            np.array([0, 0.5, 0, 1], np.float16),
        )
    found = list(
        read_matches(tmp_path / "matches.h5", [("q.jpg", "db/a.jpg"), ("q.jpg", "other.jpg")])
    )
    assert len(found) == 1
    assert found[0].rows.tolist() == [[4, 1], [0, 3]]
    assert found[0].scores.tolist() == [0.5, 1]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    photos = [
        PhotoKeypoints(
            f"f/{n}.jpg", rng.normal(size=(n, 2)), rng.normal(size=(n, 8)), rng.random(n)
        )
        for n in (1, 4)
    ]
    write_keypoints(tmp_path / "k.h5", photos)
    for one, before in zip(read_keypoints(tmp_path / "k.h5"), photos, strict=True):
        assert one.name == before.name
        for part in ("keypoints", "descriptors", "scores"):
            assert np.allclose(getattr(one, part), getattr(before, part), atol=1e-6)
    pair = PairMatches("f/1.jpg", "f/4.jpg", np.array([[0, 3]]), np.array([0.25]), 1)
    write_matches(tmp_path / "m.h5", [pair])
    (again,) = read_matches(tmp_path / "m.h5", [("f/1.jpg", "f/4.jpg")])
    assert (again.rows.tolist(), again.scores.tolist(), again.num_first) == ([[0, 3]], [0.25], 1)
    (tmp_path / "text.h5").write_text("no file of features")
    with pytest.raises(UnreadableTable, match="HDF5"):
        list(read_keypoints(tmp_path / "text.h5"))
    with pytest.raises(UnreadableTable, match="global_descriptor"):
        list(read_descriptors(tmp_path / "k.h5"))
