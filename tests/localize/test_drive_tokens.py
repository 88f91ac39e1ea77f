"""Drives as one token a frame: key frames where making again errs, what is kept of them, and what
changed between two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("av")

from video_samples import write_video
from whence.cli import run
from whence.data.pictures import write_picture
from whence.errors import BadOption, NoPhotos
from whence.localize.drive_tokens import changes_between, read_drive, stored_drive
from whence.models.backbones import make_backbone
from whence.models.tokens.delta import DeltaTok, FrameFeatures, TokenShape
from whence.models.tokens.opening import TokenModel, open_features, open_tokens, token_card
from whence.training.checkpoints import write_checkpoint
from whence.web.heat import draw_heat
from whence.worlds.clips import ClipSpec, render_clip

SHAPE = TokenShape(dim=64, num_heads=4, depth=1, hidden=128, is_release=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights: a frame made again is nearly its key frame."""
    torch.manual_seed(0)
    made = TokenModel(FrameFeatures(make_backbone("vit_mini8_64")), DeltaTok(SHAPE))
    file = tmp_path_factory.mktemp("tokens") / "tokens.safetensors"
    write_checkpoint(file, made.state_dict(), {}, card=token_card(made, recipe="test"))
    return file


def drive_of(folder: Path, numbers: list[int]) -> list[str]:
    """A drive whose frames show these clips, the first frame of each."""
    folder.mkdir()
    for place, number in enumerate(numbers):
        frame = render_clip(ClipSpec(), "val", number)["frames"][0]
        write_picture(folder / f"@{place}@{48 + 1e-5 * place:.6f}@.png", frame)
    return sorted(map(str, folder.iterdir()))


def test_a_key_frame_is_opened_where_making_again_errs(model: Path, tmp_path: Path) -> None:
    drive = read_drive(drive_of(tmp_path / "drive", [1, 1, 1, 2, 2]), model, most_error=0.01)
    assert drive.keys.tolist() == [0, 0, 0, 3, 3]
    assert len(drive.key_frames) == 2
    assert drive.tokens.shape == (5, 64)
    assert drive.num_bytes == 5 * 64 * 2
    assert (drive.errors[[1, 2, 4]] <= 0.01).all()
    assert read_drive(drive.frames, model, most_error=1e9).keys.tolist() == [0] * 5
    with pytest.raises(BadOption, match="more than 0"):
        read_drive(drive.frames, model, most_error=0)


def test_a_video_is_indexed_with_tokens(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [
        render_clip(ClipSpec(), "val", number)["frames"][0] for number in (1, 1, 1, 2, 2, 2)
    ]
    video = write_video(tmp_path / "drive.mp4", [0, 1, 2, 3, 4, 5], pictures=pictures)
    database = str(tmp_path / "street.whence")
    asked = [
        "index",
        str(video),
        "--db",
        database,
        "--model",
        "rootsift-vlad",
        "--tokens",
        str(model),
        "-q",
        "--no-calibrate",
    ]
    assert run(asked) == 0
    said = capsys.readouterr()
    kept = stored_drive(database)
    assert f"{len(kept.frames)} frames: 768 B of tokens (128 bytes a frame)" in said.out + said.err
    assert run(["tokens", "show", database, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["frames"] == 6
    assert record["key_frames"] == len(kept.key_frames) <= 6
    assert record["token_bytes"] == 6 * 128
    assert run(["index", str(video), "--estimate", "--db", database, "--tokens", str(model)]) == 1
    assert "--tokens goes with a video" in capsys.readouterr().err
    assert run(["tokens", "show", database]) == 0
    assert "key frames" in capsys.readouterr().out


def test_changes_are_drawn_over_the_map(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for name, numbers in (("before", [1, 2, 3, 4]), ("after", [1, 2, 5, 4])):
        drive_of(tmp_path / name, numbers)
        positions = tmp_path / f"{name}.csv"
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        positions.write_text(
            "path,lat,lon\n"
            + "".join(f"{file},{48 + 1e-3 * k},11.5\n" for k, file in enumerate(files))
        )
        names.append(str(tmp_path / f"{name}.whence"))
        asked = [
            "index",
            str(tmp_path / name),
            "--db",
            names[-1],
            "--model",
            "rootsift-vlad",
            "--tokens",
            str(model),
        ]
        assert run([*asked, "--positions", str(positions), "-q", "--no-calibrate"]) == 0
    capsys.readouterr()
    out = tmp_path / "changes.svg"
    assert run(["tokens", "changes", *names, str(out), "--model", str(model), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] == 4
    assert Path(said["most"][0]["photo"]).name.startswith("@2@")
    assert out.read_text().count("<circle") == 4 + 5
    assert run(["tokens", "changes", *names, str(out), "--model", str(model)]) == 0
    assert "changed most" in capsys.readouterr().out
    found = changes_between(*names, model)
    assert found.values.argmax() == 2
    plain = str(tmp_path / "plain.whence")
    assert (
        run(
            [
                "index",
                str(tmp_path / "after"),
                "--db",
                plain,
                "--model",
                "rootsift-vlad",
                "-q",
                "--no-calibrate",
            ]
        )
        == 0
    )
    with pytest.raises(NoPhotos, match="keeps no tokens"):
        stored_drive(plain)


def test_a_map_of_one_place_is_a_map() -> None:
    text = draw_heat(np.array([[48.0, 11.0]]), np.array([0.5]), caption="<one>", titles=["a & b"])
    assert "&lt;one&gt;" in text
    assert "a &amp; b: 0.500" in text


def test_a_file_of_something_else_makes_no_tokens(model: Path, tmp_path: Path) -> None:
    features = TokenModel(FrameFeatures(open_features(str(model))))
    file = tmp_path / "features.safetensors"
    write_checkpoint(file, features.state_dict(), {}, card=token_card(features, recipe="test"))
    assert open_tokens(file).tokens is None
    with pytest.raises(BadOption, match="no tokens"):
        read_drive(drive_of(tmp_path / "drive", [1, 2]), file)
