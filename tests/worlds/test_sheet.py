"""Contact sheets and `whence world`."""

from __future__ import annotations

import itertools
import json

import cv2

from whence.cli import run
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions
from whence.worlds.presets import CitySize
from whence.worlds.sheets import contact_sheet


def test_a_contact_sheet_has_rows_of_six(tmp_path):
    options = WorldOptions(
        capture=CaptureOptions(width=64, height=48), cities=(CitySize("city00", "", 60, 12, 0),)
    )
    path = contact_sheet(tmp_path / "sheet.png", seed=2, options=options)
    sheet = cv2.imread(str(path))
    assert sheet.shape[1] == 6 * 64
    assert sheet.shape[0] > 6 * 48
    assert sheet.std() > 20


def test_days_and_viewpoints_differ_where_photos_are_cut_out_of_panoramas(tmp_path):
    options = WorldOptions(
        capture=CaptureOptions(width=64, height=64), cities=(CitySize("city00", "", 60, 4, 0),)
    )
    sheet = cv2.imread(
        str(contact_sheet(tmp_path / "sheet.png", seed=2, options=options, layout="sf_xl"))
    )
    # Under its caption of 22 pixels each of the first two rows has six tiles, the row of days a
    # second line.
    for top in (22, 22 + 2 * 64 + 22):
        tiles = [sheet[top : top + 64, 64 * k : 64 * (k + 1)].astype(float) for k in range(1, 6)]
        assert min(abs(a - b).mean() for a, b in itertools.combinations(tiles, 2)) > 2


def test_the_verb_renders_and_says_so(tmp_path, capsys):
    out = str(tmp_path / "w")
    code = run(
        ["world", "city", out, "--preset", "tiny", "--size", "48x32", "--workers", "1", "--json"]
    )
    assert code == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["num_database"], record["num_queries"], record["num_unknown"]) == (60, 20, 6)
    assert run(["world", "city", out, "--preset", "tiny", "--size", "48x32", "--workers", "1"]) == 0
    assert "0 rendered" in capsys.readouterr().out
    assert run(["world", "city", out, "--preset", "tiny", "--seed", "1"]) == 1
    assert "world.json" in capsys.readouterr().err


def test_the_verb_writes_positions(tmp_path, capsys):
    assert (
        run(
            [
                "world",
                "city",
                str(tmp_path / "p"),
                "--layout",
                "positions",
                "--num-photos",
                "5000",
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["num_photos"] == 5000


def test_wrong_options_are_errors_not_crashes(tmp_path, capsys):
    assert run(["world", "city", str(tmp_path / "w"), "--size", "big"]) == 1
    assert "320x240" in capsys.readouterr().err
    assert run(["world", "city", str(tmp_path / "w"), "--layout", "sfxl"]) == 1
    assert "sf_xl" in capsys.readouterr().err
