"""GeoWarp as a pair scorer: every read-out agrees with the model run pair by pair, whatever the
sizes, chunks and precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import draw_place, view_of
from whence.data.photos import Photos
from whence.errors import BadOption
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.models.backbones import make_backbone
from whence.models.preprocessing import normalise
from whence.models.warp import cells
from whence.models.warp.cells import DenseMap, read_cells, rows_of
from whence.models.warp.geometry import warp
from whence.models.warp.model import GeoWarp, pool_cells, to_unit
from whence.models.warp.quads import FRAME, Quads, sound_pairs
from whence.models.warp.scorer import CHUNK, GeoWarpScorer, WarpOptions
from whence.models.warp.torch_engine import TorchEngine
from whence.parts import PairScorer
from whence.registry import get_card
from whence.types import Candidate, Photo

READOUTS = ("exact", "half", "features", "hybrid")


def small_model(*, is_moving: bool = True, backbone: str = "resnet18conv3") -> GeoWarp:
    """A model with random weights; its quadrilaterals differ from the whole image where it
    `is_moving`."""
    torch.manual_seed(0)
    model = GeoWarp(make_backbone(backbone)).eval()
    if is_moving:
        torch.nn.init.normal_(model.regressor.linear.weight, std=0.05)
    return model


@pytest.fixture(scope="module")
def model() -> GeoWarp:
    return small_model()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Views of places, of three sizes; the last two show the place of the first."""
    seen = [
        view_of(draw_place(place), shift=0, seed=place, size=(160, 128)) for place in range(CHUNK)
    ]
    return [
        *seen,
        *(
            view_of(draw_place(0), shift=12, seed=20 + i, size=size)
            for i, size in enumerate([(128, 160), (192, 96)])
        ),
    ]


def scored(
    model: GeoWarp, images: list[np.ndarray], *, dtype: str = "float32", **options: object
) -> np.ndarray:
    scorer = GeoWarpScorer(TorchEngine(model, dtype=dtype), options=WarpOptions(**options))  # type: ignore[arg-type]
    query = scorer.prepare(view_of(draw_place(0), shift=10, seed=9, size=(160, 128)))
    found = scorer.score(query, (scorer.prepare(image) for image in images))
    return np.array([one.similarity for one in found if one is not None])


def pair_by_pair(model: GeoWarp, images: list[np.ndarray]) -> np.ndarray:
    """The published way: four passes of the backbone for each pair, one order after the other."""
    query, values = view_of(draw_place(0), shift=10, seed=9, size=(160, 128)), []
    with torch.inference_mode():
        for image in images:
            first, second = (normalise(torch.from_numpy(pixels)[None]) for pixels in (query, image))
            local = model.local(first), model.local(second)
            forth, back = model.quads(*local), model.quads(*reversed(local))
            quads = (forth[:, :4] + back[:, 4:]) / 2, (forth[:, 4:] + back[:, :4]) / 2
            cells = [
                model.local(warp(pixels, quad))
                for pixels, quad in zip((first, second), quads, strict=True)
            ]
            values.append((cells[0] * cells[1]).sum().item())
    return np.array(values)


def test_the_exact_readout_is_the_published_way(model: GeoWarp, images: list[np.ndarray]) -> None:
    slow = pair_by_pair(model, images)
    assert np.ptp(slow) > 1
    found = scored(model, images, readout="exact")
    assert found == pytest.approx(slow, abs=0.02)
    assert np.array_equal(np.argsort(-found), np.argsort(-slow))
    assert scored(model, images, readout="exact", storage="int8") == pytest.approx(slow, abs=0.2)
    assert scored(model, images, readout="exact", dtype="bfloat16") == pytest.approx(slow, abs=1.0)


def test_other_readouts_are_near_it_and_agree_on_the_place(images: list[np.ndarray]) -> None:
    model = small_model(is_moving=False)
    exact = scored(model, images, readout="exact")
    for readout, storage in (("features", "float16"), ("features", "int8"), ("half", "float16")):
        found = scored(model, images, readout=readout, storage=storage)
        assert np.corrcoef(found, exact)[0, 1] > 0.8, readout
        assert set(np.argsort(-found)[:2]) == set(np.argsort(-exact)[:2])


def test_hybrid_puts_the_best_few_first_by_their_exact_similarity(
    model: GeoWarp, images: list[np.ndarray]
) -> None:
    features, exact = (
        scored(model, images, readout="features"),
        scored(model, images, readout="exact"),
    )
    hybrid = scored(model, images, readout="hybrid", num_exact=3)
    best = np.argsort(-features)[:3]
    assert hybrid[best] - 450 == pytest.approx(exact[best], abs=0.02)
    rest = np.setdiff1d(np.arange(len(images)), best)
    assert hybrid[rest] == pytest.approx(features[rest], abs=1e-4)
    assert hybrid[best].min() > hybrid[rest].max()


@pytest.mark.parametrize("readout", READOUTS)
def test_an_image_is_most_like_itself_and_order_of_images_does_not_matter(
    model: GeoWarp, images: list[np.ndarray], readout: str
) -> None:
    scorer = GeoWarpScorer(
        TorchEngine(small_model(is_moving=False)), options=WarpOptions(readout=readout)
    )  # type: ignore[arg-type]
    kept = [scorer.prepare(image) for image in images[:3]]
    own = next(scorer.score(kept[0], [kept[0]]))
    assert own is not None
    most = 225 if readout != "hybrid" else 675
    assert own.similarity == pytest.approx(most, abs=0.2)
    scorer = GeoWarpScorer(TorchEngine(model), options=WarpOptions(readout=readout))  # type: ignore[arg-type]
    kept = [scorer.prepare(image) for image in images[:3]]
    forth, back = next(scorer.score(kept[0], [kept[1]])), next(scorer.score(kept[1], [kept[0]]))
    assert forth is not None
    assert back is not None
    assert forth.similarity == pytest.approx(back.similarity, abs=1e-3)


@pytest.mark.parametrize("readout", READOUTS)
def test_the_first_candidate_has_a_margin(
    model: GeoWarp, images: list[np.ndarray], readout: str
) -> None:
    plain, ahead = (
        scored(model, images[:4], readout=readout, margin=margin) for margin in (0.0, 1.5)
    )
    assert ahead - plain == pytest.approx([1.5, 0, 0, 0], abs=1e-4)
    scorer = GeoWarpScorer(TorchEngine(model), options=WarpOptions(readout=readout, margin=1.5))  # type: ignore[arg-type]
    assert "1.5ahead" in scorer.key.split("/")[1]
    assert next(scorer.score(scorer.prepare(images[0]), [None])) is None


@pytest.mark.parametrize("readout", READOUTS)
def test_unreadable_candidates_keep_their_place(
    model: GeoWarp, images: list[np.ndarray], readout: str
) -> None:
    scorer = GeoWarpScorer(TorchEngine(model), options=WarpOptions(readout=readout, num_exact=2))  # type: ignore[arg-type]
    assert isinstance(scorer, PairScorer)
    query, other = scorer.prepare(images[0]), scorer.prepare(images[1])
    found = list(scorer.score(query, [None, other, None, other]))
    assert [one is None for one in found] == [True, False, True, False]
    assert found[1].num_inliers is None
    assert list(scorer.score(query, [None, None])) == [None, None]
    assert list(scorer.score(query, [])) == []


def test_candidates_are_taken_chunk_by_chunk(model: GeoWarp, images: list[np.ndarray]) -> None:
    scorer = GeoWarpScorer(TorchEngine(model))
    arrays, taken = scorer.prepare(images[0]), []

    def candidates():
        for i in range(3 * CHUNK):
            taken.append(i)
            yield arrays

    next(scorer.score(arrays, candidates()))
    assert len(taken) == CHUNK


def test_maps_of_any_size_are_read_as_pooling_does() -> None:
    """Reading the whole image off a map whose sides are multiples of the samples is plain pooling;
    warps are those of grids."""
    generator = torch.Generator().manual_seed(0)
    whole, quad = (
        np.float32(FRAME),
        np.float32([(-0.8, -0.6), (0.9, -0.7), (0.7, 0.5), (-1.4, 0.8)]),
    )
    for h, w in ((30, 30), (60, 30), (30, 45)):
        one = torch.rand(5, h, w, generator=generator)
        rows = rows_of(one.numpy())
        pooled = pool_cells(one[None])[0].flatten(1).T.numpy()
        assert np.allclose(cells.pool_cells(rows, (h, w)), pooled, atol=1e-5)
        if w % 30 == 0:
            assert np.allclose(read_cells(rows, (h, w), whole), pooled, atol=1e-5)
        slow = torch.nn.functional.avg_pool2d(
            warp(one[None], torch.from_numpy(quad)[None], size=(30, 30)), 2
        )
        assert np.allclose(
            read_cells(rows, (h, w), quad), to_unit(slow)[0].flatten(1).T.numpy(), atol=1e-5
        )


@pytest.mark.parametrize("size", [(1, 1), (7, 4), (14, 19), (31, 16)])
def test_cells_of_maps_of_any_size_are_pooled_as_torch_does(size: tuple[int, int]) -> None:
    one = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    expected = pool_cells(one[None])[0].flatten(1).T.numpy()
    assert np.allclose(cells.pool_cells(rows_of(one.numpy()), size), expected, atol=1e-5)


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_what_is_kept_is_near_what_was_computed(storage: str) -> None:
    random = np.random.default_rng(0)
    rows = np.float32(random.normal(size=(63, 16)) * np.logspace(-3, 5, 63)[:, None])
    arrays = DenseMap.of(rows, (7, 9), storage=storage).to_arrays("map")  # type: ignore[arg-type]
    assert arrays["map"].dtype == np.dtype(storage)
    for array in arrays.values():
        array.flags.writeable = False
    kept = DenseMap.from_arrays(arrays, "map")
    assert kept.size == (7, 9)
    assert (np.abs(kept.values() - rows) / np.abs(rows).max(axis=1, keepdims=True)).max() < (
        1e-3 if storage == "float16" else 1 / 250
    )


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (37, 41)])
@pytest.mark.parametrize("readout", READOUTS)
def test_any_size_of_photo_is_taken(model: GeoWarp, size: tuple[int, int], readout: str) -> None:
    scorer = GeoWarpScorer(TorchEngine(model), options=WarpOptions(readout=readout))  # type: ignore[arg-type]
    sealed = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    sealed.flags.writeable = False
    odd = scorer.prepare(sealed)
    flat = scorer.prepare(np.zeros((100, 120, 3), np.uint8))
    found = next(scorer.score(odd, [flat]))
    assert found is not None
    assert np.isfinite(found.similarity)


def test_unsound_quadrilaterals_give_the_whole_images(images: list[np.ndarray]) -> None:
    whole = np.float32(FRAME)
    quads = Quads(
        np.stack([whole * np.nan, whole * 0.5, whole * 0.5]),
        np.stack([whole, whole * 0.0, whole * 0.8]),
    )
    repaired = sound_pairs(quads)
    assert np.array_equal(repaired.first, np.stack([whole, whole, whole * 0.5]))
    assert np.array_equal(repaired.second, np.stack([whole, whole, whole * 0.8]))
    broken = small_model(is_moving=False)
    torch.nn.init.constant_(broken.regressor.linear.bias, float("nan"))
    assert scored(broken, images, readout="exact") == pytest.approx(
        scored(small_model(is_moving=False), images, readout="exact")
    )


def test_the_pair_that_is_drawn_has_the_similarity_that_orders(
    model: GeoWarp, images: list[np.ndarray]
) -> None:
    for readout in ("exact", "features"):
        scorer = GeoWarpScorer(TorchEngine(model), options=WarpOptions(readout=readout))  # type: ignore[arg-type]
        pair = scorer.compare(images[0], images[8])
        evidence = next(scorer.score(scorer.prepare(images[0]), [scorer.prepare(images[8])]))
        assert evidence is not None
        assert pair.similarity == pytest.approx(evidence.similarity, abs=1e-3)
        assert pair.cells.shape == (15, 15)
        assert pair.quad0.shape == (4, 2)
        assert 0 < pair.whole_similarity <= 225
        assert pair.whole_similarity != pytest.approx(pair.similarity)


def test_what_is_kept_has_its_own_name(model: GeoWarp) -> None:
    def key(*, dtype: str = "float32", **options: object) -> tuple[str, ...]:
        engine = TorchEngine(model, dtype=dtype)  # type: ignore[arg-type]
        return tuple(GeoWarpScorer(engine, options=WarpOptions(**options)).key.split("/"))  # type: ignore[arg-type]

    keys = [key(readout=readout) for readout in READOUTS] + [
        key(storage="int8"),
        key(long_side_px=320),
        key(enlarge=True),
        key(dtype="bfloat16"),
    ]
    assert len({kept for kept, _ in keys}) == len(keys)
    other = small_model()
    torch.nn.init.zeros_(other.regressor.linear.weight)
    kept, used = GeoWarpScorer(TorchEngine(other)).key.split("/")
    assert kept == key()[0], "the regressor changes nothing that is kept"
    assert used != key()[1]
    assert (
        GeoWarpScorer(TorchEngine(small_model(backbone="resnet18conv2"))).key.split("/")[0]
        != key()[0]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"readout": "pixel"},
        {"storage": "int4"},
        {"sides": "neither"},
        {"long_side_px": 10},
        {"num_exact": 0},
        {"margin": -1},
    ],
)
def test_impossible_options(wrong: dict[str, object]) -> None:
    with pytest.raises(BadOption):
        WarpOptions(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def written(
    tmp_path: Path, images: list[np.ndarray]
) -> Callable[[], tuple[list[Candidate], Photos]]:
    """Candidates whose photos lie on disk."""
    import cv2

    def write() -> tuple[list[Candidate], Photos]:
        files = [tmp_path / f"{i}.png" for i in range(len(images))]
        for file, image in zip(files, images, strict=True):
            cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        photos = Photos.of(
            [Photo(path=str(file), content=f"{i:032x}") for i, file in enumerate(files)]
        )
        return [
            Candidate(f"{i}.png", i + 1, 1 - 0.01 * i, row=i) for i in range(len(images))
        ], photos

    return write


def test_candidates_after_the_budget_are_left_alone(
    written: Callable[[], tuple[list[Candidate], Photos]], images: list[np.ndarray]
) -> None:
    candidates, photos = written()
    scorer = GeoWarpScorer(TorchEngine(small_model(is_moving=False)))
    prepared = PreparedPhotos(scorer, get_card("geowarp", kind="scorer"), photos)
    query = scorer.prepare(images[3])
    done = rerank(
        candidates,
        query=query,
        material=prepared,
        options=RerankOptions("geowarp", num_candidates=5),
    )
    assert [one.photo for one in done.candidates[5:]] == [f"{i}.png" for i in range(5, 10)]
    assert done.candidates[0].photo == "3.png"
    assert {one.photo for one in done.candidates[:5]} == {f"{i}.png" for i in range(5)}
    assert done.candidates[0].num_inliers is None
    slow = float(
        np.prod(
            [scorer._unpack(scorer.prepare(image)).cells for image in (images[3], images[0])],
            axis=0,
        ).sum()
    )
    found = next(one for one in done.candidates if one.photo == "0.png").evidence
    assert found is not None
    assert found.similarity == pytest.approx(slow, rel=0.05)
