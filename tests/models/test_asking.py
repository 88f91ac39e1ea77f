"""How a query asks: turned by quarters, as frames of a sequence, and by a model of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import ORIGIN, write_photo
from descriptor_samples import CARD, NAME, MeanColours, OfNegatives
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.formats import read_folders
from whence.data.images import load_image
from whence.data.names import format_name
from whence.errors import BadOption, NotFitted, UnknownName, UnreadableImage
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.index.flat import FlatIndex
from whence.localize.localizer import RETRIEVE_ONLY, Localizer, LocateOptions
from whence.models.asking import FRAME_RULES, QUERY_MODES, QueryViews, Question, ask, ask_as_one
from whence.models.cards.text import card_from_text, card_to_text
from whence.models.descriptor import load_model
from whence.models.vlad import rootsift_vlad
from whence.parts import Descriptor
from whence.settings import BuildOptions
from whence.types import GeoPoint

Capture = pytest.CaptureFixture[str]
ASKING, BY_NEGATIVES = "of-negatives", "asked-by-negatives"
TURNED = LocateOptions(rerank=None, is_verified=False, views=QueryViews("rotations"))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, factory, query_model in (
        (NAME, MeanColours, ""),
        (ASKING, OfNegatives, ""),
        (BY_NEGATIVES, MeanColours, ASKING),
    ):
        monkeypatch.setitem(
            registry.MODELS, name, Entry(factory, replace(CARD, name=name, query_model=query_model))
        )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database and queries, which are the same eight blurred pictures: lossless, wider than
    high."""
    folder = tmp_path_factory.mktemp("wide")
    for number in range(8):
        rough = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        for role in ("database", "queries"):
            (folder / role).mkdir(exist_ok=True)
            point = GeoPoint(ORIGIN.lat + 0.001 * number, ORIGIN.lon)
            name = format_name(point=point, pano_id=f"{number:04d}").replace(".jpg", ".png")
            write_photo(folder / role / name, np.kron(rough, np.ones((8, 8, 1), np.uint8)))
    return folder


def database_of(folder: Path, path: Path, model: str = NAME) -> Localizer:
    return Localizer.build(
        folder / "database", path=path, options=BuildOptions(model=model), show_progress=False
    )


def photos_of(folder: Path) -> list[Path]:
    return sorted((folder / "queries").iterdir())


@pytest.mark.parametrize("turns", range(4))
def test_a_photo_finds_its_place_however_it_is_turned(
    turns: int, wide: Path, tmp_path: Path
) -> None:
    with database_of(wide, tmp_path / "d.whence") as localizer:
        for file in photos_of(wide):
            turned = np.ascontiguousarray(np.rot90(load_image(file), turns))
            first = localizer.locate(turned, options=TURNED).candidates[0]
            assert Path(first.photo).name == file.name
            assert first.similarity == pytest.approx(1, abs=1e-4)


def test_of_four_rotations_the_best_similarity_of_each_photo_counts(
    wide: Path, tmp_path: Path
) -> None:
    with database_of(wide, tmp_path / "d.whence") as localizer:
        image = np.random.default_rng(99).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        found = localizer.locate(image, k=8, options=TURNED).candidates
        model = localizer.model
        known = {
            path: model.describe([localizer.photos.file(row)])[0]
            for row, path in enumerate(localizer.photos.paths)
        }
        asked = [model.describe([np.rot90(image, turns).copy()])[0] for turns in range(4)]
    expected = {path: max(float(known[path] @ one) for one in asked) for path in known}
    assert [one.photo for one in found] == sorted(expected, key=lambda path: -expected[path])
    assert [one.similarity for one in found] == pytest.approx(
        sorted(expected.values(), reverse=True), abs=1e-5
    )


def test_rotations_with_a_size_and_in_an_evaluation(wide: Path) -> None:
    pytest.importorskip("torch")
    data = read_folders(wide)
    for views in (QueryViews("rotations"), QueryViews("rotations", (48, 64))):
        result = evaluate(NAME, data, options=EvaluationOptions(views=views, k=5))
        assert result.thresholds[1].all_queries[0].num_right == 8
        assert "queries by rotations" in result.order


def test_rotations_on_the_command_line(wide: Path, tmp_path: Path, capsys: Capture) -> None:
    database_of(wide, tmp_path / "d.whence").close()
    query = photos_of(wide)[3]
    turned = write_photo(tmp_path / "turned.png", np.rot90(load_image(query)).copy())
    ask_plainly = [
        "locate",
        str(turned),
        "--db",
        str(tmp_path / "d.whence"),
        "--no-verify",
        "--json",
    ]
    capsys.readouterr()
    answers = []
    for more in ([], ["--set", "query_mode=rotations"]):
        assert run([*ask_plainly, *more]) == 0
        answers.append(json.loads(capsys.readouterr().out)["candidates"][0])
    assert Path(answers[1]["photo"]).name == query.name
    assert answers[0]["similarity"] < answers[1]["similarity"] == pytest.approx(1, abs=1e-4)
    assert run(["locate", "--help"]) == 0
    assert "query_mode" in capsys.readouterr().out


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def test_every_rule_is_what_it_says() -> None:
    random = np.random.default_rng(0)
    database, rows = unit(random.normal(size=(30, 8))), unit(random.normal(size=(3, 8)))
    index, each = FlatIndex.over(database), database @ rows.T
    expected = {
        "mean": each.mean(axis=1),
        "unit mean": each.mean(axis=1) / np.linalg.norm(rows.mean(axis=0)),
        "best": each.max(axis=1),
    }
    for rule, similarities in expected.items():
        question = ask(rows, rule)  # type: ignore[arg-type]
        found = question.merge(index.search(question.rows, k=10), k=30)
        order = np.argsort(-similarities, kind="stable")[: len(found.ids[0])]
        assert found.ids[0, :10].tolist() == order[:10].tolist(), rule
        assert found.similarities[0, :10] == pytest.approx(similarities[order[:10]], abs=1e-5)
        assert question.descriptor.shape == (8,)
    with pytest.raises(UnknownName, match="unit mean"):
        ask(rows, "worst")  # type: ignore[arg-type]


def test_every_mode_has_a_rule() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(5, 8)))
    one = {mode for mode in QUERY_MODES if len(QueryViews(mode).question(rows).rows) == 1}
    assert one == {"hard_resize", "single_query", "central_crop", "five_crops"}
    assert QueryViews("maj_voting", majority_weight=0.5).question(rows).majority_weight == 0.5


def test_frames_ask_as_one() -> None:
    rows = unit(np.random.default_rng(1).normal(size=(4, 8)))
    several = [Question(row[None]) for row in rows]
    mean = ask_as_one(several)
    assert mean.rows == pytest.approx(unit(rows.mean(axis=0))[None], abs=1e-6)
    assert np.array_equal(ask_as_one(several, "best").rows, rows)
    # Frames that are looked at in a mode: all of their views ask, or the mean of each frame's.
    looked_at = [QueryViews("nearest_crop").question(rows), QueryViews("five_crops").question(rows)]
    assert len(ask_as_one(looked_at, "best").rows) == 5
    assert len(ask_as_one(looked_at).rows) == 1
    for rule in ("mean", "votes"):
        with pytest.raises(BadOption, match="unit mean"):
            ask_as_one(several, rule)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="at least one"):
        ask_as_one([])


@pytest.mark.parametrize("rule", FRAME_RULES)
def test_a_sequence_is_located(rule: str, wide: Path, tmp_path: Path) -> None:
    files = photos_of(wide)
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    with database_of(wide, tmp_path / "d.whence") as localizer:
        noise = np.random.default_rng(5)
        seen = [
            np.clip(load_image(files[2]) + noise.normal(0, 40, (48, 64, 3)), 0, 255).astype(
                np.uint8
            )
            for _ in range(5)
        ]
        alone = [
            localizer.locate(image, options=RETRIEVE_ONLY).candidates[0].similarity
            for image in seen
        ]
        found = localizer.locate_frames([*seen, broken], options=RETRIEVE_ONLY, rule=rule)  # type: ignore[arg-type]
        assert Path(found.candidates[0].photo).name == files[2].name
        assert found.point == localizer.locate(files[2], options=RETRIEVE_ONLY).point
        similarity = found.candidates[0].similarity
        # Noise that differs from frame to frame falls out of the mean.
        assert (
            similarity == pytest.approx(max(alone), abs=1e-5)
            if rule == "best"
            else similarity > max(alone)
        )
        named = localizer.locate_frames(files[1:4], options=RETRIEVE_ONLY, rule=rule)  # type: ignore[arg-type]
        assert named.query == str(files[2])
        with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
            localizer.locate_frames([broken, broken])
        with pytest.raises(BadOption, match="at least one"):
            localizer.locate_frames([], options=RETRIEVE_ONLY)


def test_frames_are_verified_by_the_one_in_the_middle(street: Path, tmp_path: Path) -> None:
    with Localizer.build(
        street / "database", path=tmp_path / "d.whence", show_progress=False
    ) as localizer:
        files = sorted((street / "queries").iterdir())
        one, three = localizer.locate(files[4]), localizer.locate_frames([files[4]] * 3)
        assert three.status == one.status == "located"
        assert three.point == one.point
        assert three.candidates[0].num_inliers == one.candidates[0].num_inliers


def negatives_of(folder: Path, out: Path) -> Path:
    (out / "queries").mkdir(parents=True)
    (out / "database").symlink_to(folder / "database")
    for file in photos_of(folder):
        write_photo(out / "queries" / file.name, 255 - load_image(file))
    return out


def test_queries_are_described_by_the_model_that_the_card_names(wide: Path, tmp_path: Path) -> None:
    negatives = photos_of(negatives_of(wide, tmp_path / "negatives"))
    assert load_model(NAME).query_model.name == NAME
    assert load_model(BY_NEGATIVES).query_model.name == ASKING
    for model, is_right in ((BY_NEGATIVES, True), (NAME, False)):
        with database_of(wide, tmp_path / f"{model}.whence", model) as localizer:
            answers = [
                localizer.locate(file, options=RETRIEVE_ONLY).candidates[0] for file in negatives
            ]
            many = list(
                localizer.locate_many(negatives, options=RETRIEVE_ONLY, show_progress=False)
            )
            turned = localizer.locate(
                np.rot90(load_image(negatives[0])).copy(), options=TURNED
            ).candidates[0]
            compared = localizer.locate(negatives[0])
        hits = [
            Path(one.photo).name == file.name for one, file in zip(answers, negatives, strict=True)
        ]
        assert all(hits) == is_right
        assert [one.candidates[0].photo for one in many] == [one.photo for one in answers]
        assert (turned.similarity > 0.999) == is_right
        assert compared.candidates


@pytest.mark.parametrize("has_work", [False, True])
def test_an_evaluation_honours_the_query_model(has_work: bool, wide: Path, tmp_path: Path) -> None:
    data = read_folders(negatives_of(wide, tmp_path / "negatives"))
    work = {"work_folder": tmp_path / "work"} if has_work else {}
    for again in range(1 + has_work):
        result = evaluate(BY_NEGATIVES, data, options=EvaluationOptions(k=5, **work))  # type: ignore[arg-type]
        assert result.thresholds[1].all_queries[0].num_right == 8, again
        assert result.similarities[:, 0] == pytest.approx(1, abs=1e-4)
    plain = evaluate(NAME, data, options=EvaluationOptions(k=5))
    assert plain.thresholds[1].all_queries[0].num_right < 8


def test_each_photo_in_turn_is_asked_for_by_the_query_model(wide: Path) -> None:
    """Leaving one out, the database's own descriptors are no queries where those have a model of
    their own."""
    data = read_folders(wide)
    options = EvaluationOptions(k=5, is_leave_one_out=True, thresholds_m=(250.0,))
    own, other = (evaluate(model, data, options=options) for model in (NAME, BY_NEGATIVES))
    model = load_model(NAME)
    files = [data.database.file(row) for row in range(len(data.database))]
    known, asked = model.describe(files), load_model(ASKING).describe(files)
    for result, queries in ((own, known), (other, asked)):
        similarities = queries @ known.T
        np.fill_diagonal(similarities, -2)
        assert result.predictions[:, 0].tolist() == similarities.argmax(axis=1).tolist()


def small(**more: object) -> Callable[[], Descriptor]:
    class Small(MeanColours):
        dim = 12

    return Small


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        (small(), BadOption, "12 dimensions"),
        (lambda: rootsift_vlad(pca_dim=48), NotFitted, "fitted"),
        (None, UnknownName, ASKING),
    ],
    ids=["other dimensions", "to be fitted", "unknown"],
)
def test_query_models_that_cannot_be(
    factory: Callable[[], Descriptor] | None,
    error: type[Exception],
    said: str,
    wide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.delitem(registry.MODELS, ASKING)
    if factory is not None:
        monkeypatch.setitem(registry.MODELS, ASKING, Entry(factory, replace(CARD, name=ASKING)))
    with pytest.raises(error, match=said):
        _ = load_model(BY_NEGATIVES).query_model
    database_of(wide, tmp_path / "d.whence", BY_NEGATIVES).close()
    capsys.readouterr()
    assert run(["locate", str(photos_of(wide)[0]), "--db", str(tmp_path / "d.whence")]) == 1
    assert said in capsys.readouterr().err
    with pytest.raises(error, match=said):
        evaluate(BY_NEGATIVES, read_folders(wide))


def test_cards_keep_their_query_model() -> None:
    card = replace(CARD, query_model=ASKING)
    assert card_from_text(card_to_text(card)) == card
    older = json.loads(card_to_text(CARD))
    del older["query_model"]
    assert card_from_text(json.dumps(older)).query_model == ""
