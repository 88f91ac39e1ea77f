"""Databases made of photo folders: made, extended, refreshed, refitted, merged, exchanged; and what
they answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo, write_street
from whence.errors import (
    BadOption,
    CardMismatch,
    NoPhotos,
    NotAStore,
    NotFitted,
    UnknownName,
    UnreadableImage,
    UnreadableTable,
)
from whence.geo import GeoPoint, distance_m
from whence.index.audit import fingerprint
from whence.index.store import Store
from whence.localize import build, keeping, maintain
from whence.localize.localizer import Localizer
from whence.localize.retrieve import Around
from whence.models.local.sift import LocalDescriptors
from whence.settings import BuildOptions

WORDS = "rootsift-vlad"
"""Whose words are those that come along, below 100 photos."""


@pytest.fixture
def place(tmp_path: Path, street: Path) -> Path:
    """A folder of its own with a few photos: photos/ (12), more/ (4 others)."""
    files = sorted((street / "database").iterdir())
    for folder, chosen in (("photos", files[:12]), ("more", files[12:16])):
        (tmp_path / folder).mkdir()
        for file in chosen:
            shutil.copy(file, tmp_path / folder)
    return tmp_path


def content_of(path: Path) -> str:
    with Store.open(path) as store:
        return fingerprint(store)


def test_a_folder_becomes_a_database_that_answers(place: Path, street: Path) -> None:
    localizer = Localizer.build(place / "photos", path=place / "city.whence")
    assert localizer.report is not None
    assert (
        localizer.report.num_photos,
        localizer.report.num_described,
        localizer.report.vocabulary,
    ) == (12, 12, "fitted")
    assert localizer.report.num_with_point == 12
    for number, query in enumerate(sorted((street / "queries").iterdir())[:12]):
        position = localizer.locate(query, k=5)
        assert position.status == "located"
        assert len(position.candidates) == 5
        assert f"{number:04d}r0" in position.candidates[0].photo
        assert position.point is not None
        assert position.candidates[0].point is not None
        assert distance_m(position.point, position.candidates[0].point) < 1
        assert position.heading_deg == pytest.approx(90, abs=1)
        assert set(position.seconds) == {"describe", "search", "rerank", "verify"}
    assert localizer.files_of(position.candidates)[0].is_file()
    localizer.close()


def test_pixels_and_bytes_are_queries_too(place: Path, street: Path) -> None:
    query = sorted((street / "queries").iterdir())[3]
    with Localizer.build(place / "photos", path=place / "city.whence") as localizer:
        from_file = localizer.locate(query)
        from_bytes = localizer.locate(query.read_bytes())
        from_pixels = localizer.locate(view_of(draw_place(3), shift=25, seed=1))
        assert from_file.candidates == from_bytes.candidates
        assert from_pixels.candidates[0].photo == from_file.candidates[0].photo
        with pytest.raises(BadOption):
            localizer.locate(np.zeros((4, 4), np.float32))
        with pytest.raises(UnreadableImage):
            localizer.locate(b"not a picture")


def test_only_what_is_new_is_described(place: Path) -> None:
    path = place / "city.whence"
    build.build_database([place / "photos"], path=path)
    again = build.build_database([place / "photos"], path=path)
    assert (again.num_described, again.num_added, again.num_updated) == (0, 0, 0)
    more = build.build_database([place / "more"], path=path)
    assert (more.num_described, more.num_added, more.num_photos, more.vocabulary) == (
        4,
        4,
        16,
        "kept",
    )
    together = build.build_database([place / "photos", place / "more"], path=place / "both.whence")
    assert together.num_described == 16


def test_one_content_under_two_paths_is_described_once(place: Path) -> None:
    first = sorted((place / "photos").iterdir())[0]
    (place / "photos" / "copies and Kopien å").mkdir()
    shutil.copy(first, place / "photos" / "copies and Kopien å" / "the same.JPG")
    report = build.build_database([place / "photos"], path=place / "city.whence")
    assert (report.num_photos, report.num_descriptors, report.num_described) == (13, 12, 12)
    with Localizer.open(place / "city.whence") as localizer:
        best = localizer.locate(first, k=2).candidates
        assert {Path(one.photo).name for one in best} == {first.name, "the same.JPG"}


def test_unreadable_photos_are_reported_and_skipped(place: Path) -> None:
    good = sorted((place / "photos").iterdir())[0].read_bytes()
    (place / "photos" / "text.jpg").write_text("not a picture")
    (place / "photos" / "empty.png").write_bytes(b"")
    (place / "photos" / "cut.jpg").write_bytes(good[: len(good) // 2])
    report = build.build_database([place / "photos"], path=place / "city.whence")
    assert report.num_photos == 12
    assert {Path(entry.path).name for entry in report.skipped} == {
        "text.jpg",
        "empty.png",
        "cut.jpg",
    }
    assert all(entry.reason for entry in report.skipped)
    with Localizer.open(place / "city.whence") as localizer:
        answers = list(
            localizer.locate_many(
                [place / "photos" / "text.jpg", sorted((place / "photos").iterdir())[0]]
            )
        )
    assert [answer.status for answer in answers] == ["unknown", "located"]
    assert "text.jpg" in answers[0].reason


def test_refresh_follows_the_folders(place: Path) -> None:
    path = place / "city.whence"
    build.build_database([place / "photos"], path=path)
    files = sorted((place / "photos").iterdir())
    files[0].unlink()
    shutil.copy(sorted((place / "more").iterdir())[0], files[1])
    os.utime(files[2])
    shutil.copy(sorted((place / "more").iterdir())[1], place / "photos")
    files[3].write_bytes(b"broken now")
    localizer = Localizer.refresh(path)
    report = localizer.report
    assert report is not None
    assert (report.num_removed, report.num_described, report.num_added, report.num_updated) == (
        1,
        2,
        1,
        1,
    )
    assert report.num_photos == 12
    assert [Path(entry.path).name for entry in report.skipped] == [files[3].name]
    assert Path(localizer.photos.paths[2]).name == files[3].name or files[3].name in {
        Path(p).name for p in localizer.photos.paths
    }
    assert localizer.store.num_descriptors == 12
    localizer.close()
    assert maintain.refresh_database(path).num_described == 0
    shutil.rmtree(place / "photos")
    with pytest.raises(NoPhotos, match="any more"):
        maintain.refresh_database(path)


def test_a_database_and_its_photos_can_move_together(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build.build_database([place / "photos"], path=place / "city.whence")
    there = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.move(place, there)
    with Localizer.open(there / "city.whence") as localizer:
        assert all(localizer.photos.file(row).is_file() for row in range(12))
    assert maintain.refresh_database(there / "city.whence").num_described == 0


def test_removed_photos_are_never_found(place: Path) -> None:
    path = place / "city.whence"
    build.build_database([place / "photos"], path=path)
    files = sorted((place / "photos").iterdir())
    assert maintain.remove_photos(path, [files[0], f"photos/{files[1].name}", "nothing.jpg"]) == 2
    with Localizer.open(path) as localizer:
        names = {Path(one.photo).name for one in localizer.locate(files[0], k=50).candidates}
        assert names == {file.name for file in files[2:]}
        assert localizer.store.num_descriptors == 10


def test_merging(place: Path, street: Path) -> None:
    build.build_database([place / "photos"], path=place / "a.whence", options=BuildOptions(WORDS))
    (place / "deeper").mkdir()
    build.build_database(
        [place / "more"], path=place / "deeper" / "b.whence", options=BuildOptions(WORDS)
    )
    assert maintain.merge_databases(place / "a.whence", place / "deeper" / "b.whence") == 4
    with Localizer.open(place / "a.whence") as localizer:
        assert localizer.store.num_photos == 16
        query = sorted((street / "queries").iterdir())[13]
        best = localizer.locate(query).candidates[0]
        assert "0013r0" in best.photo
        assert localizer.photos.file(best.row).is_file()
    build.build_database(
        [place / "more"], path=place / "dense.whence", options=BuildOptions(model="densevlad")
    )
    with pytest.raises(CardMismatch):
        maintain.merge_databases(place / "a.whence", place / "dense.whence")


def test_another_model_is_refused(place: Path) -> None:
    build.build_database([place / "photos"], path=place / "city.whence")
    with pytest.raises(CardMismatch, match="whence-lite0-words-960"):
        build.build_database(
            [place / "more"], path=place / "city.whence", options=BuildOptions(model="densevlad")
        )
    with pytest.raises(UnknownName, match="rootsift-vlad"):
        build.build_database(
            [place / "photos"], path=place / "x.whence", options=BuildOptions(model="rootsift-vald")
        )
    with pytest.raises(BadOption):
        build.build_database(
            [place / "photos"], path=place / "x.whence", options=BuildOptions(engine="nonsense,,")
        )
    with pytest.raises(BadOption):
        build.build_database(
            [place / "photos"],
            path=place / "x.whence",
            options=BuildOptions(model_options={"colour": 1}),
        )
    assert not (place / "x.whence").exists()


def test_options_are_remembered(place: Path) -> None:
    options = BuildOptions(model="densevlad", dtype="float16", engine="flat")
    build.build_database([place / "photos"], path=place / "city.whence", options=options)
    report = build.build_database([place / "more"], path=place / "city.whence")
    assert (report.model, report.num_photos) == ("densevlad", 16)
    with Store.open(place / "city.whence") as store:
        assert store.dtype == np.float16
        assert store.options["build"]["engine"] == "flat"


def test_plans_say_what_would_happen(place: Path) -> None:
    path, options = place / "city.whence", BuildOptions(keep_local=False)
    plan = build.plan_build([place / "photos"], path=path, options=options)
    assert (plan.num_photos, plan.num_to_describe) == (12, 12)
    assert not path.exists()
    report = build.build_database([place / "photos"], path=path, options=options)
    assert report.size_bytes == pytest.approx(plan.size_bytes, rel=0.3)
    after = build.plan_build([place / "photos", place / "more"], path=path)
    assert (after.num_photos, after.num_to_describe) == (16, 4)


@pytest.mark.parametrize(
    ("model", "most", "is_kept"),
    [("rootsift-vlad", 12, True), ("rootsift-vlad", 11, False), ("lite0", 12, False)],
)
def test_local_descriptors_are_kept_where_there_is_room(
    place: Path, model: str, most: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_BYTES", most * keeping.BYTES_PER_PHOTO)
    name = "whence-lite0-448" if model == "lite0" else model
    plan, other = (
        build.plan_build(
            [place / "photos"], path=place / "x", options=BuildOptions(name, keep_local=keep)
        )
        for keep in (None, False)
    )
    assert (plan.size_bytes > other.size_bytes) == is_kept
    report = build.build_database(
        [place / "photos"], path=place / "city.whence", options=BuildOptions(name)
    )
    assert report.size_bytes <= 1.1 * plan.size_bytes
    with Localizer.open(place / "city.whence") as localizer:
        contents = [content.decode() for content in localizer.photos.content]
        assert (
            localizer.store.has_cache(f"{localizer.store.card_id}.local", contents).all() == is_kept
        )


def test_kept_local_descriptors(place: Path) -> None:
    options = BuildOptions(keep_local=True, commit_photos=5)
    build.build_database([place / "photos"], path=place / "city.whence", options=options)
    with Localizer.open(place / "city.whence") as localizer:
        store, photos = localizer.store, localizer.photos
        contents = [content.decode() for content in photos.content]
        assert store.has_cache(f"{store.card_id}.local", contents).all()
        arrays = store.read_cache(f"{store.card_id}.local", contents[4])
        assert arrays is not None
        kept = LocalDescriptors.from_arrays(arrays)
        fresh = localizer.model.descriptor.local.extract(localizer.model.read(photos.file(4)))
        assert np.array_equal(kept.keypoints, fresh.keypoints)
        assert np.abs(kept.descriptors - fresh.descriptors).max() < 0.01


def test_nothing_to_index(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoPhotos, match="no photos under"):
        build.build_database([tmp_path / "empty"], path=tmp_path / "x.whence")
    (tmp_path / "empty" / "bad.jpg").write_text("x")
    with pytest.raises(NoPhotos, match=r"bad\.jpg"):
        build.build_database([tmp_path / "empty"], path=tmp_path / "x.whence")
    assert not (tmp_path / "x.whence").exists()
    with pytest.raises(NotAStore):
        Localizer.open(tmp_path / "empty")


def test_photos_without_coordinates_are_matched(tmp_path: Path) -> None:
    for seed in range(6):
        write_photo(
            tmp_path / "photos" / f"place {seed}.png", view_of(draw_place(seed), shift=0, seed=0)
        )
    query = write_photo(tmp_path / "query.jpg", view_of(draw_place(4), shift=15, seed=2))
    with Localizer.build(tmp_path / "photos", path=tmp_path / "p.whence") as localizer:
        position = localizer.locate(query)
        assert (position.status, position.point) == ("matched", None)
        assert position.candidates[0].photo == "photos/place 4.png"
        nothing = localizer.locate(query, around=Around(GeoPoint(0, 0), within_m=1e6))
        assert (nothing.status, nothing.candidates) == ("unknown", ())


def test_positions_from_a_table(tmp_path: Path) -> None:
    for seed in range(4):
        write_photo(tmp_path / "photos" / f"{seed}.png", view_of(draw_place(seed), shift=0, seed=0))
    lines = ["file,lat,lon"] + [f"{seed}.png,{10 + seed},20" for seed in range(3)]
    (tmp_path / "where.csv").write_text("\n".join(lines))
    report = build.build_database(
        [tmp_path / "photos"], path=tmp_path / "p.whence", positions=tmp_path / "where.csv"
    )
    assert (report.num_photos, report.num_with_point) == (4, 3)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """110 photos: enough for a vocabulary of their own."""
    root = tmp_path_factory.mktemp("large")
    write_street(root / "photos", num_places=110, shift=0, run=0)
    return root


SMALL_WORDS = {"num_words": 8}


def test_a_large_database_gets_its_own_vocabulary(large: Path, tmp_path: Path) -> None:
    options = BuildOptions(WORDS, model_options=SMALL_WORDS)
    report = build.build_database([large / "photos"], path=tmp_path / "a.whence", options=options)
    assert report.vocabulary == "fitted"
    assert build.build_database([large / "photos"], path=tmp_path / "a.whence").vocabulary == "kept"
    other = build.build_database([large / "photos"], path=tmp_path / "b.whence", options=options)
    assert other.vocabulary == "fitted"
    with Store.open(tmp_path / "a.whence") as a, Store.open(tmp_path / "b.whence") as b:
        assert a.state_id == b.state_id


def test_a_grown_database_can_be_refitted(large: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    files = sorted((large / "photos").iterdir())
    for file in files[:10]:
        shutil.copy(file, tmp_path / "photos")
    path = tmp_path / "city.whence"
    first = build.build_database([tmp_path / "photos"], path=path, options=BuildOptions(WORDS))
    assert first.vocabulary == "packaged"
    for file in files[10:]:
        shutil.copy(file, tmp_path / "photos")
    assert build.build_database([tmp_path / "photos"], path=path).vocabulary == "kept"
    next(iter((tmp_path / "photos").iterdir())).unlink()
    report = maintain.refit_database(path)
    assert (report.vocabulary, report.num_photos, report.num_described) == ("fitted", 109, 109)
    assert len(report.skipped) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["city.whence", "photos"]
    with Localizer.open(path) as localizer:
        assert localizer.locate(files[50]).candidates[0].similarity == pytest.approx(1, abs=1e-3)


def test_a_refit_killed_between_its_renames_is_completed(place: Path) -> None:
    path = place / "city.whence"
    build.build_database([place / "photos"], path=path)
    shutil.copytree(path, place / "city.whence.refit")
    path.rename(place / "city.whence.before-refit")
    with Localizer.open(path) as localizer:
        assert localizer.store.num_photos == 12
    assert sorted(entry.name for entry in place.iterdir() if "whence" in entry.name) == [
        "city.whence"
    ]


def test_too_few_photos_for_options_without_packaged_vocabulary(place: Path) -> None:
    with pytest.raises((BadOption, NotFitted), match="100 photos"):
        build.build_database(
            [place / "photos"],
            path=place / "x.whence",
            options=BuildOptions(WORDS, model_options=SMALL_WORDS),
        )


def test_export_and_import(place: Path) -> None:
    build.build_database([place / "photos"], path=place / "a.whence")
    assert maintain.export_database(place / "a.whence", place / "out") == 12
    assert np.load(place / "out" / "descriptors.npy").shape == (12, 960)
    assert maintain.import_database(place / "out", path=place / "b.whence") == 12
    assert content_of(place / "a.whence") == content_of(place / "b.whence")
    query = sorted((place / "photos").iterdir())[5]
    with Localizer.open(place / "b.whence") as localizer:
        assert Path(localizer.locate(query).candidates[0].photo).name == query.name


@pytest.mark.parametrize(
    "broken", ["database.json", "photos.csv", "descriptors.npy", "descriptor-state.npz"]
)
def test_broken_exports_are_named(place: Path, broken: str) -> None:
    build.build_database([place / "photos"], path=place / "a.whence")
    maintain.export_database(place / "a.whence", place / "out")
    (place / "out" / broken).write_bytes(b"broken")
    with pytest.raises(UnreadableTable, match=broken):
        maintain.import_database(place / "out", path=place / "b.whence")


def test_compact_codes_answer_like_exact_search(
    place: Path, monkeypatch: pytest.MonkeyPatch, street: Path
) -> None:
    """The engine path of large databases, made small: codes are kept in the database and used."""
    from whence.index import ann

    monkeypatch.setattr(ann, "EXACT_BELOW", 4)
    shutil.copytree(street / "database", place / "all")
    build.build_database(
        [place / "all"], path=place / "c.whence", options=BuildOptions(engine="SQ8")
    )
    with Store.open(place / "c.whence") as store:
        assert "engine" in store.blob_names
    query = sorted((street / "queries").iterdir())[7]
    with Localizer.open(place / "c.whence") as localizer:
        assert type(localizer.retriever.index).__name__ == "AnnIndex"
        assert "0007r0" in localizer.locate(query).candidates[0].photo
