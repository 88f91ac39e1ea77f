"""The revisited protocol: scores as the authors compute them, files as they name them, and a world
in their layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo
from whence.cli import run
from whence.data.photos import Photos
from whence.data.revisited import RevisitedSet, read_revisited
from whence.errors import InputError, NoPhotos
from whence.evaluation.revisited import LEVELS, average_precision, score_rankings
from whence.lists import NeighborLists
from whence.types import Photo


def lists(rows: list[list[int]]) -> NeighborLists:
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    return NeighborLists(
        offsets, np.array([one for part in rows for one in sorted(part)], np.int64)
    )


def slow_scores(ranking: list[int], asked: set[int], passed: set[int]) -> tuple[float, list[float]]:
    """One query, photo by photo."""
    place, found, area = 0, 0, 0.0
    places = []
    for row in ranking:
        if row in passed:
            continue
        if row in asked:
            before = 1.0 if place == 0 else found / place
            found += 1
            area += (before + found / (place + 1)) / 2 / len(asked)
            places.append(place + 1)
        place += 1
    return area, [
        sum(p <= min(k, max(places)) for p in places) / min(k, max(places)) for k in (1, 5, 10)
    ]


def test_scores_are_those_of_the_slow_way() -> None:
    random = np.random.default_rng(0)
    grades: dict[str, list[list[int]]] = {"easy": [], "hard": [], "junk": []}
    rankings = []
    for query in range(12):
        order = random.permutation(40)
        sizes = random.integers(0, 6, 3) if query else (0, 3, 0)
        ends = np.cumsum(sizes)
        for grade, part in zip(
            grades, np.split(random.permutation(40)[: ends[-1]], ends[:-1]), strict=True
        ):
            grades[grade].append(part.tolist())
        rankings.append(order)
    photos = Photos.of([Photo("a.jpg")])
    truth = RevisitedSet(
        "made",
        photos,
        photos,
        np.full((12, 4), np.nan),
        **{name: lists(rows) for name, rows in grades.items()},
    )
    found = score_rankings(np.array(rankings), truth)
    for level, (asked, passed) in LEVELS.items():
        slow = [
            slow_scores(
                ranking.tolist(), relevant, {row for name in passed for row in grades[name][query]}
            )
            for query, ranking in enumerate(rankings)
            if (relevant := {row for name in asked for row in grades[name][query]})
        ]
        assert found[level].num_queries == len(slow)
        assert found[level].mean_average_precision == pytest.approx(
            np.mean([area for area, _ in slow])
        )
        assert found[level].precision_at == pytest.approx(np.mean([at for _, at in slow], axis=0))
    assert found["easy"].num_queries < found["medium"].num_queries, (
        "a query without easy photos is left out of easy alone"
    )


def test_average_precision_of_known_rankings() -> None:
    assert average_precision(np.array([0, 1, 2]), 3) == pytest.approx(1.0)
    # The only relevant photo comes second: (0 + 1/2) / 2.
    assert average_precision(np.array([1]), 1) == pytest.approx(0.25)
    assert average_precision(np.array([0]), 2) == pytest.approx(0.5)
    assert np.isnan(average_precision(np.array([], int), 0))


def write_set(root: Path) -> Path:
    for number in range(5):
        write_photo(
            root / "jpg" / f"place_{number}.jpg", view_of(draw_place(number), shift=0, seed=0)
        )
    for number in range(2):
        write_photo(
            root / "jpg" / f"query_{number}.jpg", view_of(draw_place(number), shift=20, seed=1)
        )
    gnd = [
        {"easy": [0], "hard": [3], "junk": [], "bbx": [10.5, 5.0, 250.2, 180.0]},
        {"easy": [1], "hard": [], "junk": [4], "bbx": [0, 0, 320, 200]},
    ]
    truth = {
        "imlist": [f"place_{k}" for k in range(5)],
        "qimlist": ["query_0", "query_1"],
        "gnd": gnd,
    }
    (root / "gnd_made.json").write_text(json.dumps(truth))
    return root


def test_a_set_is_read_and_its_queries_are_cut_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_revisited(write_set(tmp_path))
    assert (data.name, len(data.database), len(data.queries)) == ("made", 5, 2)
    assert data.query_pixels(0).shape == (175, 241, 3)
    assert data.query_pixels(1).shape == (200, 320, 3)
    # A photo that is not there is left out, and numbers go on to mean the same photos.
    (tmp_path / "jpg" / "place_0.jpg").unlink()
    less = read_revisited(tmp_path)
    assert [len(less.easy.of(query)) for query in range(2)] == [0, 1]
    assert less.database.paths[int(less.easy.of(1)[0])].endswith("place_1.jpg")
    write_set(tmp_path)
    assert (
        run(
            [
                "evaluate",
                str(tmp_path),
                "--protocol",
                "revisited",
                "--model",
                "rootsift-vlad",
                "--json",
            ]
        )
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["easy"]["mean_average_precision"] == pytest.approx(1.0)
    assert said["hard"]["num_queries"] == 1
    assert (
        run(["evaluate", str(tmp_path), "--protocol", "revisited", "--model", "rootsift-vlad"]) == 0
    )
    assert "mAP" in capsys.readouterr().out


@pytest.mark.parametrize(
    "truth",
    ["no json", "[]", '{"imlist": []}', '{"imlist": ["a"], "qimlist": ["q"], "gnd": []}',
     '{"imlist": ["a"], "qimlist": ["q"], "gnd": [{"easy": [7], "hard": [], "junk": []}]}',
     '{"imlist": ["a"], "qimlist": ["q"], '
     '"gnd": [{"easy": [0], "hard": [], "junk": [], "bbx": [1, 2]}]}'],
)  # fmt: skip
def test_a_broken_ground_truth_is_named(truth: str, tmp_path: Path) -> None:
    (tmp_path / "gnd_broken.json").write_text(truth)
    with pytest.raises(InputError, match="gnd_broken"):
        read_revisited(tmp_path)


class Trap:
    """What runs where it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('it ran')",))


def test_a_pickle_is_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"gnd_roxford5k\.json"):
        read_revisited(tmp_path)
    with pytest.raises(NoPhotos, match="gnd_"):
        read_revisited(tmp_path / "nothing")


def test_a_world_of_landmarks_has_photos_of_every_grade(sources: dict[str, Path]) -> None:
    data = read_revisited(sources["revisited"])
    assert (len(data.database), len(data.queries)) == (16, 4)
    landmark = [
        [Path(path).stem[:6] for path in photos.paths] for photos in (data.database, data.queries)
    ]
    for grade in (data.easy, data.hard, data.junk):
        for query in range(4):
            assert {landmark[0][row] for row in grade.of(query).tolist()} <= {landmark[1][query]}
    assert all(
        sum(len(grade.of(query)) for grade in (data.easy, data.hard, data.junk)) == 8
        for query in range(4)
    )
    assert len(data.easy.members)
    assert len(data.hard.members)
    asked = data.as_set().positives
    assert asked is not None
    assert asked.counts.tolist() == (data.easy.counts + data.hard.counts).tolist()
