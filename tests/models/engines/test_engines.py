"""Engines: the same descriptors, faster; refused where they are not the same."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image
from torch import nn

from network_samples import CARD, ENTRY, NAME, images, make_network, open_sample
from whence import registry
from whence.cards import Preprocessing
from whence.errors import BadOption, EngineRefused, MissingExtra, UnknownName
from whence.models.asking import QueryViews
from whence.models.descriptor import load_model, read_as
from whence.models.engines import torch as engines
from whence.models.engines.parity import fold_batch_norms, min_cosine, sample_images
from whence.models.engines.torch import ENGINES, has_bf16
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.preprocessing import normalise, resize_image, resize_normalised, target_size


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, ENTRY)


def described(engine: str, given: list[np.ndarray], **options: object) -> np.ndarray:
    descriptor = open_sample()
    descriptor.configure(CARD.preprocessing, engine=engine, **options)
    return descriptor.describe(given)


@pytest.mark.parametrize(
    "engine", ["folded", "bf16", "auto", "onnxruntime", "openvino", "openvino-bf16"]
)
def test_engines_give_the_networks_descriptors(engine: str) -> None:
    for package in engine.split("-")[:1]:
        if package in ("onnxruntime", "openvino"):
            pytest.importorskip("onnxscript")
            pytest.importorskip(package)
    given = [*images(5), *images(2, size=(64, 96))]
    expected, found = described("eager", given), described(engine, given)
    cosines = (expected * found).sum(axis=1)
    assert cosines.min() > (0.9999 if "bf16" in engine or engine == "auto" else 1 - 1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_eager_is_the_plain_network() -> None:
    given = images(3)
    network = make_network()
    with torch.inference_mode():
        expected = nn.functional.normalize(
            network(normalise(torch.from_numpy(np.stack(given))))
        ).numpy()
    assert np.allclose(described("eager", given), expected, atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet18conv4", "resnet50conv3", "efficientnet_b0"])
def test_folding_leaves_no_batch_norm_and_the_same_numbers(backbone: str) -> None:
    network = make_network(backbone)
    pixels = normalise(torch.from_numpy(np.stack(images(2))))
    folded = copy.deepcopy(network)
    num_norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert fold_batch_norms(folded, pixels[:1]) == num_norms > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        assert min_cosine(folded(pixels), network(pixels)) > 1 - 1e-6


class Shared(nn.Module):
    """One batch norm after two convolutions, and one convolution before two norms: neither may be
    folded."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm, self.first, self.second = (nn.BatchNorm2d(3).eval() for _ in range(3))
        self.first.running_mean.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.c(self.norm(self.a(x)) + self.norm(self.b(x)))
        return self.first(y) + self.second(y)


def test_what_is_shared_is_not_folded() -> None:
    network = Shared().eval()
    x = torch.randn(1, 3, 8, 8)
    before = network(x)
    assert fold_batch_norms(network, x) == 0
    assert torch.equal(network(x), before)


def test_auto_keeps_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen() -> str:
        descriptor = open_sample()
        descriptor.configure(CARD.preprocessing)
        return descriptor.engine.name

    if torch.cuda.is_available():
        pytest.skip("on a machine with a graphics card auto takes it")
    monkeypatch.setattr(engines, "has_bf16", lambda: True)
    assert chosen() == "bf16"
    monkeypatch.setattr(engines, "has_bf16", lambda: False)
    assert chosen() == "folded"
    monkeypatch.setattr(engines, "AUTO_COSINE", 1.1)
    assert chosen() == "eager"


def test_an_engine_with_other_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(engines.LowPrecision):
        def forward(self, x: torch.Tensor) -> object:
            found = super().forward(x)
            return found._replace(map=found.map.flip(1))

    monkeypatch.setattr(engines, "LowPrecision", Broken)
    descriptor = open_sample()
    descriptor.configure(CARD.preprocessing, engine="bf16")
    with pytest.raises(EngineRefused, match=r"bf16 is refused.*0\.99") as refused:
        descriptor.describe(images(1))
    assert refused.value.cosine < 0.99

    class NotANumber(engines.LowPrecision):
        def forward(self, x: torch.Tensor) -> object:
            found = super().forward(x)
            return found._replace(map=found.map * float("nan"))

    monkeypatch.setattr(engines, "LowPrecision", NotANumber)
    descriptor.configure(CARD.preprocessing, engine="bf16")
    with pytest.raises(EngineRefused, match="nan"):
        descriptor.describe(images(1))


def test_options_are_checked_and_remembered(
    registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(NAME, options={"engine": "folded"})
    assert model.options == {"engine": "folded"}
    automatic = load_model(NAME).options
    assert automatic == {
        "engine": "cuda" if torch.cuda.is_available() else "bf16" if has_bf16() else "folded"
    }
    assert load_model(NAME, options={"upstream_order": True}).options == {
        "engine": "eager",
        "upstream_order": True,
    }
    with pytest.raises(BadOption, match="takes one size"):
        load_model(NAME, options={"resize": False})
    with pytest.raises(UnknownName, match="folded"):
        load_model(NAME, options={"engine": "fold"})
    with pytest.raises(BadOption, match="has no option 'depth'"):
        load_model(NAME, options={"depth": 3})
    with pytest.raises(BadOption, match="for networks"):
        load_model("rootsift-vlad", options={"engine": "bf16"})
    with pytest.raises(BadOption, match="eager"):
        load_model(NAME, options={"upstream_order": True, "engine": "bf16"})
    with pytest.raises(BadOption, match="no ONNX file"):
        load_model(NAME, options={"onnx": "x.onnx"})
    with pytest.raises(BadOption, match="whence export"):
        load_model(NAME, options={"engine": "onnxruntime", "onnx": str(tmp_path / "none.onnx")})
    if not torch.cuda.is_available():
        with pytest.raises(BadOption, match="graphics card"):
            _ = load_model(NAME, options={"engine": "cuda"}).options
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(BadOption, match="content changed"):
        load_model(
            NAME,
            options={"engine": "onnxruntime", "onnx": str(tmp_path / "a.onnx"), "onnx_hash": "00"},
        )
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=r"whence-vpr\[(onnx|openvino)\]"):
            _ = load_model(NAME, options={"engine": package}).options
    assert {"auto", "eager", "bf16"} < set(ENGINES)


def test_sample_images_are_always_the_same_and_fit_the_card() -> None:
    first = sample_images(CARD.preprocessing)
    assert first.shape[1:] == (96, 128, 3)
    assert torch.equal(first, sample_images(CARD.preprocessing))
    assert not torch.equal(first[0], first[1])
    assert sample_images(Preprocessing(size_px=(322, 322), multiple_of=14)).shape[1:3] == (322, 322)


def slow_size(size: tuple[int, int], steps: Preprocessing) -> tuple[int, int]:
    """What torchvision's Resize gives for one side, and MegaLoc's multiples."""
    if steps.short_side_px is not None:
        short, long = sorted(size)
        sides = {short: steps.short_side_px, long: int(steps.short_side_px * long / short)}
        size = (sides[size[0]], sides[size[1]]) if short != long else (steps.short_side_px,) * 2
    m = steps.multiple_of
    return (max(m, m * round(size[0] / m)), max(m, m * round(size[1] / m)))


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (333, 517), (100, 100), (512, 777)])
@pytest.mark.parametrize("multiple", [1, 14])
def test_sizes_are_those_of_the_field(size: tuple[int, int], multiple: int) -> None:
    steps = Preprocessing(
        short_side_px=320, enlarge=True, multiple_of=multiple, interpolation="bilinear"
    )
    assert target_size(size, steps) == slow_size(size, steps)
    assert target_size(size, Preprocessing(multiple_of=multiple)) == slow_size(
        size, Preprocessing(multiple_of=multiple)
    )
    assert target_size(size, Preprocessing(size_px=(30, 40))) == (30, 40)
    assert target_size((100, 200), Preprocessing(short_side_px=320)) == (100, 200)
    with pytest.raises(BadOption, match="one of"):
        target_size(size, Preprocessing(size_px=(3, 3), long_side_px=3))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(50, 70), (200, 100), (97, 131)])
def test_resizing_is_pillows(interpolation: str, size: tuple[int, int]) -> None:
    image = images(1, size=(120, 160))[0]
    steps = Preprocessing(size_px=size, interpolation=interpolation)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(Image.fromarray(image).resize((size[1], size[0]), filters[interpolation]))
    found = read_as(image, steps)
    gaps = np.abs(found.astype(int) - expected)
    assert gaps.max() <= 1
    assert gaps.mean() < 0.03
    assert found.flags.c_contiguous
    assert resize_image(found, steps) is found


def test_without_antialiasing_pixels_are_sampled() -> None:
    image = images(1, size=(120, 160))[0]
    steps = Preprocessing(size_px=(40, 40), interpolation="bilinear", antialias=False)
    floats = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    expected = nn.functional.interpolate(floats, size=(40, 40), mode="bilinear", antialias=False)[
        0
    ].permute(1, 2, 0)
    assert (torch.from_numpy(resize_image(image, steps)).float() - expected).abs().max() <= 1
    assert not np.array_equal(
        resize_image(image, steps),
        resize_image(image, Preprocessing(size_px=(40, 40), interpolation="bilinear")),
    )
    with pytest.raises(BadOption, match="nearest"):
        resize_image(image, Preprocessing(size_px=(40, 40), interpolation="nearest"))
    with pytest.raises(BadOption, match="bilinear or bicubic"):
        read_as(image, Preprocessing(size_px=(40, 40)))


@pytest.mark.parametrize("antialias", [True, False])
def test_upstream_order_is_the_published_loader(
    registered: None, antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    photos = images(3, size=(150, 210))
    steps = Preprocessing(size_px=(96, 128), interpolation="bilinear", antialias=antialias)
    mean, std = steps.mean, steps.std
    upstream = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
            transforms.Resize((96, 128), antialias=antialias),
        ]
    )
    with torch.inference_mode():
        batch = torch.stack([upstream(Image.fromarray(photo)) for photo in photos])
        expected = nn.functional.normalize(make_network()(batch)).numpy()
    descriptor = NetworkDescriptor(make_network())
    descriptor.configure(steps, upstream_order=True)
    assert descriptor.reading == Preprocessing()
    assert np.allclose(descriptor.describe(photos), expected, atol=2e-6)
    descriptor.configure(steps, engine="eager")
    usual = descriptor.describe([resize_image(photo, steps) for photo in photos])
    assert (usual * expected).sum(axis=1).min() > 0.9999
    assert not np.allclose(usual, expected, atol=2e-6), "rounding to whole levels leaves a trace"


def test_photos_keep_their_own_size_where_asked(
    registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the authors of CosPlace and EigenPlaces evaluate: photos of any sizes, as they are, of
    database and queries alike."""
    steps = Preprocessing(short_side_px=64, interpolation="bilinear")
    monkeypatch.setitem(
        registry.MODELS, NAME, replace(ENTRY, card=replace(CARD, preprocessing=steps))
    )
    photos = [*images(1, size=(96, 128)), *images(1, size=(70, 200), seed=1)]
    whole = load_model(NAME, options={"resize": False, "engine": "eager"})
    assert whole.options == {"engine": "eager", "resize": False}
    assert np.allclose(whole.describe(photos), open_sample().describe(photos), atol=2e-6)
    usual = load_model(NAME, options={"engine": "eager"})
    assert usual.read(photos[0]).shape == (64, 85, 3)
    assert not np.allclose(usual.describe(photos), whole.describe(photos), atol=1e-3)
    with pytest.raises(BadOption, match="resize"):
        list(whole.describe_each(photos, views=QueryViews("five_crops")))


@pytest.mark.parametrize("size", [(150, 210), (155, 218), (70, 84), (300, 140), (13, 50)])
@pytest.mark.parametrize("upstream_order", [False, True])
def test_sides_are_cut_to_multiples_where_asked(
    size: tuple[int, int], upstream_order: bool
) -> None:
    """As AnyLoc's demonstration does: the longer side, then the middle; without it the photo is
    stretched."""
    transforms = pytest.importorskip("torchvision.transforms.functional")
    steps = Preprocessing(
        long_side_px=200, multiple_of=14, interpolation="bicubic", is_cropped=True
    )
    (photo,) = images(1, size=size)
    whole = resize_image(photo, replace(steps, multiple_of=1, is_cropped=False))
    height, width = (side // 14 * 14 for side in whole.shape[:2])
    found = resize_image(photo, steps)
    if min(height, width) == 0:
        assert np.array_equal(found, resize_image(photo, replace(steps, is_cropped=False))), (
            "too narrow to be cut"
        )
        return
    expected = (
        transforms.center_crop(torch.from_numpy(whole.copy()).permute(2, 0, 1), [height, width])
        .permute(1, 2, 0)
        .numpy()
    )
    assert np.array_equal(found, expected)
    assert target_size(size, steps) == found.shape[:2]
    if upstream_order:
        normal = normalise(torch.from_numpy(photo)[None]).contiguous()
        late = resize_normalised(normal, steps)
        assert late.shape[2:] == found.shape[:2]
        # Whole levels are clipped at black and white, where bicubic filters overshoot; a level is
        # 0.0175 here.
        assert (late - normalise(torch.from_numpy(found)[None])).abs().median() < 0.0175


def test_the_crop_is_an_option_that_a_database_remembers(registered: None) -> None:
    steps = Preprocessing(long_side_px=100, multiple_of=14, interpolation="bicubic")
    descriptor = NetworkDescriptor(make_network())
    descriptor.configure(steps, engine="eager", crop=True)
    assert descriptor.preprocessing == replace(steps, is_cropped=True)
    assert descriptor.settings == {"engine": "eager", "crop": True}
    descriptor.configure(steps, engine="eager")
    assert descriptor.settings == {"engine": "eager"}
    with pytest.raises(BadOption, match="multiples"):
        descriptor.configure(Preprocessing(interpolation="bilinear"), crop=True)


@pytest.mark.parametrize("kind", ["jpeg", "png", "turned", "grey", "transparent"])
def test_where_upstream_order_is_exact(registered: None, kind: str, tmp_path: Path) -> None:
    """It begins at Pillow's pixels; what the field's loader makes otherwise of a file is on the
    page about describing."""
    transforms = pytest.importorskip("torchvision.transforms")
    (pixels,) = images(1, size=(150, 210))
    image = Image.fromarray(pixels)
    file, exif = tmp_path / ("a.jpg" if kind in ("jpeg", "turned") else "a.png"), Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    made = {
        "grey": image.convert("L"),
        "transparent": Image.merge("RGBA", (*image.split(), image.convert("L"))),
    }.get(kind, image)
    made.save(file, exif=exif, **({"quality": 95} if file.suffix == ".jpg" else {}))
    steps = Preprocessing(size_px=(96, 128), interpolation="bilinear")
    upstream = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(steps.mean, steps.std),
            transforms.Resize((96, 128)),
        ]
    )
    with torch.inference_mode():
        expected = nn.functional.normalize(
            make_network()(upstream(Image.open(file).convert("RGB"))[None])
        ).numpy()
    descriptor = NetworkDescriptor(make_network())
    descriptor.configure(steps, upstream_order=True)
    found = descriptor.describe([read_as(file, descriptor.reading)])
    assert np.allclose(found, expected, atol=2e-6) == (kind not in ("turned", "transparent"))
