"""Networks as ONNX files: near torch at every size, refused where they are not, with their card
inside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from conftest import write_photo
from network_samples import CARD, ENTRY, NAME, images, make_network, open_sample
from whence import cli, registry
from whence.errors import BadOption, EngineRefused, MissingExtra
from whence.models.descriptor import load_model
from whence.models.engines import export as exporting
from whence.models.engines.export import export_onnx

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, ENTRY)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network exported in float32."""
    file = tmp_path_factory.mktemp("export") / "plain.onnx"
    report = export_onnx(make_network(), file, steps=CARD.preprocessing, card=CARD)
    assert report.is_size_free
    assert len({parity.size_px for parity in report.parities}) == 2
    assert min(parity.cosine for parity in report.parities) > 1 - 1e-6
    assert report.size_bytes == file.stat().st_size
    return file


def run(file: Path, given: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["descriptors"], {"images": np.stack(given)})[0]


@pytest.mark.parametrize(
    ("num", "size"), [(1, (96, 128)), (3, (96, 128)), (2, (150, 70)), (5, (33, 61))]
)
def test_batch_height_and_width_are_free(plain: Path, num: int, size: tuple[int, int]) -> None:
    given = images(num, size=size)
    expected = open_sample().describe(given)
    assert np.abs(run(plain, given) - expected).max() < 1e-5


def test_the_card_travels_with_the_file(plain: Path) -> None:
    kept = {entry.key: entry.value for entry in onnx.load(str(plain)).metadata_props}
    assert kept["model"] == NAME
    assert kept["precision"] == "float32"
    assert json.loads(kept["card"])["preprocessing"]["size_px"] == [96, 128]


def test_bf16_halves_the_file(plain: Path, tmp_path: Path) -> None:
    report = export_onnx(
        make_network(), tmp_path / "half.onnx", steps=CARD.preprocessing, precision="bf16"
    )
    assert report.size_bytes < 0.55 * plain.stat().st_size
    cosines = (run(tmp_path / "half.onnx", images(3)) * run(plain, images(3))).sum(axis=1)
    assert cosines.min() > 0.9999
    assert not np.array_equal(run(tmp_path / "half.onnx", images(3)), run(plain, images(3)))


def test_int8_computes_in_int8(plain: Path, tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    report = export_onnx(
        make_network(), file, steps=CARD.preprocessing, precision="int8", calibration=images(4)
    )
    assert min(parity.cosine for parity in report.parities) >= 0.99
    nodes = [node.op_type for node in onnx.load(str(file)).graph.node]
    assert nodes.count("QuantizeLinear") > 10
    assert report.size_bytes < 0.3 * plain.stat().st_size
    cosines = (run(file, images(3, seed=5)) * open_sample().describe(images(3, seed=5))).sum(axis=1)
    assert cosines.min() > 0.99
    with pytest.raises(BadOption, match="--calibration"):
        export_onnx(make_network(), file, steps=CARD.preprocessing, precision="int8")


def test_a_file_with_other_numbers_is_not_written(tmp_path: Path) -> None:
    # Ranges taken from black photos clip everything.
    black = [np.zeros((96, 128, 3), np.uint8)]
    with pytest.raises(EngineRefused, match="int8 file is refused") as refused:
        export_onnx(
            make_network(),
            tmp_path / "x.onnx",
            steps=CARD.preprocessing,
            precision="int8",
            calibration=black,
        )
    assert refused.value.cosine < 0.99
    assert list(tmp_path.iterdir()) == []


def test_the_command_and_the_engine_that_runs_its_file(
    registered: None, tmp_path: Path, capsys: Capture
) -> None:
    for number, image in enumerate(images(3, seed=9)):
        write_photo(tmp_path / "photos" / f"{number}.png", image)
    file = tmp_path / "int8.onnx"
    arguments = [
        "export",
        NAME,
        "--onnx",
        str(file),
        "--int8",
        "--calibration",
        str(tmp_path / "photos"),
    ]
    assert cli.run([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["precision"] == "int8"
    assert len(record["parities"]) == 2
    model = load_model(NAME, options={"engine": "onnxruntime", "onnx": str(file)})
    assert model.options["onnx_hash"]
    assert (model.describe(images(3)) * open_sample().describe(images(3))).sum(axis=1).min() > 0.99
    again = load_model(NAME, options=model.options)
    assert np.array_equal(again.describe(images(2)), model.describe(images(2)))
    assert cli.run(["export", NAME, "--onnx", str(tmp_path / "b.onnx"), "--bf16"]) == 0
    assert "cosine to torch at least 0.9999" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rootsift-vlad", "--onnx", "x.onnx"], "not a network"),
        (["nothing", "--onnx", "x.onnx"], "unknown model"),
        ([NAME, "--onnx", "x.onnx", "--int8", "--bf16"], "exclude"),
        ([NAME, "--onnx", "x.onnx", "--int8"], "--calibration"),
        ([NAME, "--onnx", "x.onnx", "--calibration", "."], "--int8"),
        ([NAME, "--onnx", "x.onnx", "--int8", "--calibration", "."], "no readable photo"),
        ([NAME, "--onnx", "none/x.onnx"], "make the folder"),
    ],
)
def test_bad_requests_are_errors(
    arguments: list[str],
    message: str,
    registered: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["export", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"whence-vpr\[onnx\]"):
        export_onnx(make_network(), tmp_path / "x.onnx", steps=CARD.preprocessing)


def test_where_sizes_cannot_be_free_they_are_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network()
    run_exporter = exporting._run_exporter

    def refuse(module: object, given: torch.Tensor, file: Path, free: dict[int, object]) -> None:
        if len(free) > 1:
            raise RuntimeError("this method needs its size")
        run_exporter(module, given, file, free)

    monkeypatch.setattr(exporting, "_run_exporter", refuse)
    report = export_onnx(network, tmp_path / "x.onnx", steps=CARD.preprocessing)
    assert not report.is_size_free
    assert [parity.size_px for parity in report.parities] == [(96, 128)]
    assert run(tmp_path / "x.onnx", images(3)).shape == (3, 256)
