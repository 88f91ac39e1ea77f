"""Files of weights damaged at random, and cards that ask for the impossible: refused with the
reason, or read; never a crash."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whence import cli
from whence.errors import BadOption, UnreadableWeights, WhenceError
from whence.models.cards.text import CARD_FIELD, card_from_text, card_to_text
from whence.models.checkpoints.files import read_weights
from whence.models.checkpoints.networks import expected_tensors, load_weights, make_network
from whence.models.descriptor import load_model
from whence.models.zoo import CARDS

CARD = CARDS["gem-resnet18conv4-256-msls"]


def saved(kind: str) -> bytes:
    tensors = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.tensor(3)}
    if kind == "safetensors":
        return safetensors_torch.save(tensors, {CARD_FIELD: card_to_text(CARD)})
    buffer = io.BytesIO()
    torch.save(
        {"state_dict": tensors, "epoch": 3}, buffer, _use_new_zipfile_serialization=kind == "zip"
    )
    return buffer.getvalue()


KINDS = {kind: saved(kind) for kind in ("safetensors", "zip", "old")}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(KINDS[kind])
    content = (
        content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content
    )
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with contextlib.suppress(UnreadableWeights):
        assert all(
            isinstance(tensor, torch.Tensor) for tensor in read_weights(file).tensors.values()
        )
    with pytest.raises(WhenceError):
        load_weights(file, CARD)
    with pytest.raises(WhenceError):
        load_model(str(file))


def test_every_function_that_is_no_part_of_weights_is_refused(tmp_path: Path) -> None:
    """Whatever a pickle inside a file of torch asks to call: it is not called, and named."""
    marker = tmp_path / "marker"
    calls = {
        "posix.system": (os.system, (f"touch {marker}",)),
        "builtins.exec": (exec, (f"open({str(marker)!r}, 'w')",)),
        "builtins.open": (open, (str(marker), "w")),
        "torch.hub.load_state_dict_from_url": (
            torch.hub.load_state_dict_from_url,
            ("http://127.0.0.1:9/a",),
        ),
        "builtins.getattr": (getattr, ("text", "upper")),
        "io.open": (io.FileIO, (str(marker), "w")),
    }

    class Calls:
        def __init__(self, call: tuple[Any, ...]) -> None:
            self.call = call

        def __reduce__(self) -> tuple[Any, ...]:
            return self.call

    for name, call in calls.items():
        payload = pickle.dumps({"state_dict": Calls(call)}, protocol=2)
        file = tmp_path / "a.pth"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", payload)
            archive.writestr("archive/version", "3\n")
        with pytest.raises(UnreadableWeights, match="nothing was run"):
            read_weights(file)
        assert not marker.exists(), name


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnreadableWeights, match="no file"):
            read_weights(path)
    with pytest.raises(UnreadableWeights, match="No such file"):
        read_weights(tmp_path / "nothing.pth")


def with_card(path: Path, card_text: str) -> Path:
    path.write_bytes(
        safetensors_torch.save({"backbone.conv1.weight": torch.zeros(1)}, {CARD_FIELD: card_text})
    )
    return path


WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "a licence that is a number": {"licence": 5},
    "origins that are texts": {"origins": ["x"]},
    "an origin of another kind": {"origins": [{"kind": "ftp", "address": "a", "file": "b"}]},
    "a dimension that is a text": {"dim": "512"},
    "a dimension that is true": {"dim": True},
    "options in a list": {"aggregator_options": [1]},
    "no size": {"preprocessing": {"size_px": 5}},
    "three sides": {"preprocessing": {"size_px": [5, 5, 5]}},
    "no pixels": {"preprocessing": {"size_px": [0, 5]}},
    "a size that fills the memory": {"preprocessing": {"size_px": [10**9, 10**9]}},
    "a side that fills the memory": {"preprocessing": {"short_side_px": 10**9}},
    "a multiple of nothing": {"preprocessing": {"multiple_of": 0}},
    "no deviation": {"preprocessing": {"std": [0, 1, 1]}},
    "a mean that is none": {"preprocessing": {"mean": [float("nan"), 1, 1]}},
}


@pytest.mark.parametrize("kind", WRONG_FIELDS)
def test_cards_with_fields_of_another_kind(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps(json.loads(card_to_text(CARD)) | WRONG_FIELDS[kind])
    with pytest.raises(BadOption, match="no card of a model"):
        card_from_text(text)
    file = with_card(tmp_path / "a.safetensors", text)
    for arguments in (
        ["models", str(file)],
        ["models", str(file), "--cost"],
        ["convert", str(file), "--out", str(tmp_path / "b")],
    ):
        assert cli.run(arguments) == 1
        assert "no card of a model" in capsys.readouterr().err


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "an option no backbone has": {"backbone_options": {"depth": 3}},
    "blocks that are a text": {
        "backbone": "dinov2_vits14",
        "backbone_options": {"num_blocks": "3"},
    },
    "blocks without end": {"backbone": "dinov2_vits14", "backbone_options": {"num_blocks": 10**9}},
    "a facet in a list": {"backbone": "dinov2_vits14", "backbone_options": {"facet": ["key"]}},
    "mixers without end": {"aggregator": "mixvpr", "aggregator_options": {"depth": 10**9}},
    "layers without end": {"aggregator": "boq", "aggregator_options": {"num_layers": 10**9}},
    "fields without end": {"aggregator": "convap", "aggregator_options": {"grid": 10**6}},
    "words without end": {"aggregator": "netvlad", "aggregator_options": {"num_words": 10**18}},
    "options in options": {"aggregator": "gem", "aggregator_options": {"p": {"a": [1]}}},
    "a network timm does not have": {"backbone": "timm:nothing"},
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_cards_that_ask_for_the_impossible(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = replace(CARD, **IMPOSSIBLE[kind])
    with pytest.raises(WhenceError):
        make_network(card)
    with pytest.raises(WhenceError):
        expected_tensors(card)
    file = with_card(tmp_path / "a.safetensors", card_to_text(card))
    assert cli.run(["models", str(file), "--cost"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(WhenceError):
        load_model(str(file))
