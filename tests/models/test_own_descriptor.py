"""A descriptor of one's own: `dim` and `describe` are all it needs, from describing to located
answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

from conftest import write_photo
from descriptor_samples import CARD, NAME, MeanColours
from network_samples import images, make_network
from whence import registry
from whence.cards import Entry, ModelCard, Preprocessing
from whence.errors import BadOption, NotFitted, UnreadableImage
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.pca import Reduced
from whence.models.vlad import Vlad, rootsift_vlad
from whence.models.zoo import named_network
from whence.parts import Descriptor
from whence.settings import BuildOptions


class Shifted(MeanColours):
    """Minus the mean of what it was fitted on: what a descriptor that is fitted adds."""

    min_photos = 3

    def __init__(self) -> None:
        self.is_fitted, self.mean = False, np.zeros(self.dim, np.float32)

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        self.load_state({"mean": self.describe(list(images)).mean(axis=0)})

    def state(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.is_fitted, self.mean = True, state["mean"]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))


def test_dim_and_describe_are_enough() -> None:
    model = load_model(NAME)
    descriptor = model.descriptor
    assert (model.dim, model.batch_size, model.is_fitted, model.min_photos_to_fit) == (
        48,
        8,
        True,
        0,
    )
    assert (
        descriptor.network,
        descriptor.local,
        descriptor.least_side_px,
        descriptor.settings,
    ) == (None, None, 1, {})
    assert model.options == {}
    assert model.preprocessing == CARD.preprocessing
    assert model.prepare([]) == "ready"
    pixels = images(3)
    assert np.allclose(
        model.describe(pixels), MeanColours().describe([model.read(pixel) for pixel in pixels])
    )
    assert model.describe([]).shape == (0, 48)
    model.fit(pixels)
    assert descriptor.state() == {}
    descriptor.load_state({})
    with pytest.raises(BadOption, match="keeps no state"):
        descriptor.load_state({"words": np.zeros(3)})
    with pytest.raises(BadOption, match="no packaged state"):
        model.load_packaged()
    with pytest.raises(BadOption, match="no local descriptors"):
        list(model.describe_each(pixels, keep_local=True))
    with pytest.raises(BadOption, match="local"):
        descriptor.pool(None)


@pytest.mark.parametrize(
    "options",
    [{"engine": "eager"}, {"crop": True}, {"onnx": "a.onnx"}, {"pca_dim": 4}, {"colour": 1}],
)
def test_options_it_does_not_have_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BadOption, match=next(iter(options))):
        load_model(NAME, options=options)


def test_a_class_that_is_no_descriptor_is_told_what_to_derive_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, Entry(lambda: object(), CARD))
    with pytest.raises(BadOption, match=r"whence\.parts\.Descriptor"):
        load_model(NAME)
    with pytest.raises(TypeError, match="abstract"):
        Descriptor()  # type: ignore[abstract]


@pytest.mark.parametrize(
    "factory", [MeanColours, lambda: object()], ids=["no network", "no descriptor"]
)
def test_what_is_no_network_is_not_taken_for_one(
    factory: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, Entry(factory, CARD))
    with pytest.raises(BadOption, match="no network"):
        named_network(NAME)


def test_a_database_of_its_own(street: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.whence"
    built = Localizer.build(
        street / "database", path=path, options=BuildOptions(model=NAME), show_progress=False
    )
    opened = Localizer.open(path)
    files = sorted((street / "database").glob("*.jpg"))[:3]
    for one in (built, opened):
        for file in files:
            answer = one.locate(file, k=1, options=RETRIEVE_ONLY)
            assert Path(answer.candidates[0].photo).name == file.name


def test_one_that_is_fitted_is_fitted_on_the_database_and_comes_back(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, Entry(Shifted, CARD))
    built = Localizer.build(
        street / "database",
        path=tmp_path / "own.whence",
        options=BuildOptions(model=NAME),
        show_progress=False,
    )
    opened = Localizer.open(tmp_path / "own.whence")
    assert opened.model.is_fitted
    assert np.abs(opened.model.descriptor.state()["mean"]).max() > 0
    assert np.array_equal(
        opened.model.descriptor.state()["mean"], built.model.descriptor.state()["mean"]
    )


def test_every_kind_of_descriptor_has_the_same_base() -> None:
    network = NetworkDescriptor(make_network("alexnet"))
    for descriptor in (network, rootsift_vlad(), Reduced(network, pca_dim=4), MeanColours()):
        assert isinstance(descriptor, Descriptor)
        assert not [
            name
            for name in vars(Descriptor)
            if not name.startswith("__") and not hasattr(descriptor, name)
        ]
    vlad = rootsift_vlad(pca_dim=80)
    assert (vlad.dim, vlad.min_photos, vlad.is_fitted) == (80, 160, False)
    assert isinstance(vlad, Vlad)
    with pytest.raises(NotFitted):
        vlad.state()


def test_a_reduced_network_asks_of_photos_what_the_network_does(tmp_path: Path) -> None:
    """A photo too small for the network costs only itself, also with a PCA after it."""
    network = NetworkDescriptor(make_network("alexnet"), batch_size=3)
    reduced = Reduced(network, pca_dim=4)
    assert (reduced.least_side_px, reduced.batch_size, reduced.network) == (
        network.least_side_px,
        3,
        network.network,
    )
    assert reduced.least_side_px > 20
    reduced.fit(images(12, size=(64, 96)), seed=0)
    card = ModelCard("reduced", "random weights", 4, Preprocessing(interpolation="bilinear"), "MIT")
    files = [
        write_photo(tmp_path / f"{i}.png", images(1, size=size)[0])
        for i, size in enumerate([(64, 96), (20, 300)])
    ]
    found = list(DescriptorModel(card, reduced).describe_each(files))
    assert [isinstance(one, UnreadableImage) for one in found] == [False, True]
