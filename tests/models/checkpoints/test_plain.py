"""Old files of torch read without torch: the same tensors as torch reads, and nothing that runs."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.errors import UnreadableWeights
from whence.models.checkpoints.plain import read_old_weights


def old_file(path: Path, content: object) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_the_same_tensors_as_torch_reads(tmp_path: Path) -> None:
    whole = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    tensors = OrderedDict(
        whole=whole,
        view=whole[1:, 2],
        turned=whole.permute(2, 0, 1),
        half=torch.rand(7).half(),
        count=torch.tensor(12),
        none=torch.zeros(0, 3),
    )
    found = read_old_weights(old_file(tmp_path / "a.pth", tensors))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].shape == tuple(tensor.shape)
        assert np.array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("was_run"),)


@pytest.mark.parametrize(
    "value", [Evil(), {"a": Evil()}, torch.nn.Linear(2, 2), torch.zeros(3, dtype=torch.float64)]
)
def test_what_is_no_plain_tensor_is_refused(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = old_file(tmp_path / "a.pth", {"x": value})
    with pytest.raises(UnreadableWeights, match=r"a\.pth"):
        read_old_weights(file)
    assert not (tmp_path / "was_run").exists()


def hostile(
    tensor: tuple[object, ...], *, numbers: bytes = struct.pack("<q4f", 4, 1, 2, 3, 4)
) -> bytes:
    """A file whose one tensor is described so."""
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {}):
        pickle.dump(part, file, 2)

    class Writer(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return (
                ("storage", torch.FloatStorage, "0", "cpu", 4, None)
                if value == "the storage"
                else None
            )

    class Described:
        def __reduce__(self) -> tuple[object, ...]:
            return torch._utils._rebuild_tensor_v2, ("the storage", *tensor, False, OrderedDict())

    Writer(file, 2).dump({"x": Described()})
    pickle.dump(["0"], file, 2)
    return file.getvalue() + numbers


def test_a_file_made_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(hostile((1, (3,), (1,))))
    assert read_old_weights(tmp_path / "a.pth")["x"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    "tensor",
    [
        (2, (3,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**9, 10**9), (0, 0)),
        (0, (2,), ()),
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(tensor: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(hostile(tensor))
    with pytest.raises(UnreadableWeights):
        read_old_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("length", [-1, 1 << 40, 5])
def test_more_numbers_than_there_are(length: int, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(
        hostile((0, (4,), (1,)), numbers=struct.pack("<q4f", length, 1, 2, 3, 4))
    )
    with pytest.raises(UnreadableWeights):
        read_old_weights(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02.", b"PK\x03\x04", b"text", pickle.dumps({"x": 1}), pickle.dumps(Evil())],
)
def test_other_files(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UnreadableWeights):
        read_old_weights(tmp_path / "a.pth")
    assert not (tmp_path / "was_run").exists()


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = old_file(tmp_path / "a.pth", {"x": torch.arange(6.0)}).read_bytes()
    for end in range(0, len(whole), 3):
        (tmp_path / "b.pth").write_bytes(whole[:end])
        with pytest.raises(UnreadableWeights):
            read_old_weights(tmp_path / "b.pth")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UnreadableWeights):
            read_old_weights(path)
