"""VLAD against its formula written out, its fitting, and its states."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import draw_place, view_of
from whence.errors import BadOption, NotFitted
from whence.models.local.sift import SIFT_DIM, LocalDescriptors, RootSift, root_sift
from whence.models.pca import fit_pca
from whence.models.vlad import Vlad, dense_vlad, k_means, rootsift_vlad


def random_local(num: int, seed: int) -> LocalDescriptors:
    random = np.random.default_rng(seed)
    descriptors = root_sift(random.integers(0, 200, (num, SIFT_DIM)).astype(np.float32))
    empty = np.zeros(num, np.float32)
    return LocalDescriptors(np.zeros((num, 2), np.float32), descriptors, empty, empty, (10, 10))


def fitted(num_words: int, seed: int = 0) -> Vlad:
    model = rootsift_vlad(num_words=num_words)
    words = root_sift(
        np.random.default_rng([seed, 9]).integers(0, 200, (num_words, SIFT_DIM)).astype(np.float32)
    )
    model.load_state({"words": words})
    return model


def slow_vlad(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
    blocks = [[0.0] * SIFT_DIM for _ in words]
    for descriptor in descriptors.astype(np.float64):
        distances = [((descriptor - word) ** 2).sum() for word in words.astype(np.float64)]
        nearest = int(np.argmin(distances))
        residual = descriptor - words[nearest]
        length = np.sqrt((residual**2).sum())
        blocks[nearest] = [
            total + value / length for total, value in zip(blocks[nearest], residual, strict=True)
        ]
    lengths = [np.sqrt(sum(value * value for value in block)) for block in blocks]
    flat = np.concatenate(
        [
            np.array(block) / length if length else np.array(block)
            for block, length in zip(blocks, lengths, strict=True)
        ]
    )
    return flat / max(np.sqrt((flat**2).sum()), 1e-12)


@pytest.mark.parametrize("num", [0, 1, 5, 200])
def test_vlad_equals_its_formula(num: int) -> None:
    model, local = fitted(5), random_local(num, seed=num)
    found = model.pool(local)
    assert found.shape == (5 * SIFT_DIM,)
    assert np.allclose(found, slow_vlad(local.descriptors, model.state()["words"]), atol=1e-5)
    assert np.linalg.norm(found) == pytest.approx(1.0 if num else 0.0, abs=1e-5)


def test_the_power_law_takes_signed_roots() -> None:
    plain, rooted = fitted(5), fitted(5)
    rooted.has_power_law = True
    local = random_local(60, seed=2)
    before = plain.pool(local)
    after = np.sign(before) * np.sqrt(np.abs(before))
    assert np.allclose(rooted.pool(local), after / np.linalg.norm(after), atol=1e-5)


def test_the_order_of_local_descriptors_does_not_matter() -> None:
    model, local = fitted(8), random_local(50, seed=1)
    mixed = LocalDescriptors(
        local.keypoints, local.descriptors[::-1].copy(), local.sizes_px, local.angles_deg, (10, 10)
    )
    assert np.allclose(model.pool(local), model.pool(mixed), atol=1e-6)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [view_of(draw_place(seed), shift=0, seed=0) for seed in range(40)]


@pytest.mark.parametrize("make", [rootsift_vlad, dense_vlad])
def test_fitting_is_deterministic_and_finds_the_same_place(
    make: type[Vlad], images: list[np.ndarray]
) -> None:
    images = images[:16]
    first, second = make(num_words=16), make(num_words=16)
    first.fit(images, seed=3)
    second.fit(iter(images), seed=3)
    assert np.array_equal(first.state()["words"], second.state()["words"])
    other = make(num_words=16)
    other.fit(images, seed=4)
    assert not np.array_equal(first.state()["words"], other.state()["words"])
    database = first.describe(images)
    queries = first.describe([view_of(draw_place(seed), shift=12, seed=1) for seed in range(16)])
    assert database.dtype == np.float32
    assert database.shape == (16, 16 * SIFT_DIM)
    right = (queries @ database.T).argmax(axis=1) == np.arange(16)
    assert right.sum() >= 15


def test_one_image_alone_or_in_a_batch(images: list[np.ndarray]) -> None:
    model = fitted(8)
    batch = model.describe(images[:5])
    assert np.array_equal(batch[2], model.describe([images[2]])[0])
    assert model.describe([]).shape == (0, 8 * SIFT_DIM)


def test_pca_whitens_and_comes_back(images: list[np.ndarray]) -> None:
    model = rootsift_vlad(num_words=8, pca_dim=10)
    assert model.dim == 10
    with pytest.raises(NotFitted):
        model.describe(images[:1])
    model.fit(images, seed=0)
    described = model.describe(images)
    assert described.shape == (40, 10)
    assert np.allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
    again = rootsift_vlad(num_words=8, pca_dim=10)
    again.load_state(model.state())
    assert np.allclose(again.describe(images), described, atol=1e-6)


@pytest.mark.parametrize(
    ("num", "full_dim"), [(60, 8), (30, 200)], ids=["more photos than dimensions", "fewer"]
)
def test_pca_directions_are_those_of_the_covariance(num: int, full_dim: int) -> None:
    random = np.random.default_rng(0)
    raw = (random.normal(size=(num, full_dim)) * np.linspace(5, 0.5, full_dim)).astype(np.float32)
    mean, axes = fit_pca(raw, 4)
    projected = (raw - mean) @ axes.T
    assert np.allclose(np.cov(projected.T, bias=True), np.eye(4), atol=0.02)
    values = np.linalg.eigvalsh(np.cov(raw.T, bias=True))[::-1][:4]
    assert np.allclose(1 / np.linalg.norm(axes, axis=1) ** 2, values, rtol=0.02)


def test_too_little_to_fit_on() -> None:
    with pytest.raises(NotFitted, match="too few"):
        k_means(np.zeros((10, SIFT_DIM), np.float32), 64, seed=0)
    with pytest.raises(NotFitted, match="at least 20"):
        fit_pca(np.zeros((19, 30), np.float32), 10)
    with pytest.raises(NotFitted, match="too few"):
        rootsift_vlad().fit([np.zeros((50, 50, 3), np.uint8)], seed=0)


def test_unfitted_models_say_so() -> None:
    model = rootsift_vlad()
    assert not model.is_fitted
    with pytest.raises(NotFitted):
        model.describe([np.zeros((50, 50, 3), np.uint8)])
    with pytest.raises(NotFitted):
        model.state()


@pytest.mark.parametrize("options", [{"num_words": 1}, {"pca_dim": 0}, {"pca_dim": 10**6}])
def test_impossible_options(options: dict[str, int]) -> None:
    with pytest.raises(BadOption):
        rootsift_vlad(**options)  # type: ignore[arg-type]


def test_foreign_states_are_refused() -> None:
    with pytest.raises(BadOption, match="words"):
        rootsift_vlad().load_state({"words": np.zeros((3, SIFT_DIM), np.float32)})
    with pytest.raises(BadOption, match="pca_mean"):
        rootsift_vlad(num_words=4, pca_dim=2).load_state(
            {"words": np.zeros((4, SIFT_DIM), np.float32)}
        )


@pytest.mark.parametrize("make", [rootsift_vlad, dense_vlad])
def test_the_packaged_vocabulary(make: type[Vlad], images: list[np.ndarray]) -> None:
    model = make()
    model.load_packaged()
    assert model.is_fitted
    assert model.state()["words"].shape == (64, SIFT_DIM)
    assert len(np.unique(model.state()["words"], axis=0)) == 64
    assert np.allclose(np.linalg.norm(model.describe(images[:2]), axis=1), 1, atol=1e-5)
    with pytest.raises(BadOption):
        make(num_words=32).load_packaged()


def test_a_stream_longer_than_the_sample_keeps_memory_bounded(
    monkeypatch: pytest.MonkeyPatch, images: list[np.ndarray]
) -> None:
    monkeypatch.setattr("whence.models.vlad.MAX_SAMPLE_DESCRIPTORS", 1000)
    model = Vlad(extractor=RootSift(max_keypoints=100), num_words=4)
    model.fit(images, seed=0)
    assert model.is_fitted
