"""The study of registration: its 16 settings, matches that are made once, and what all settings
come to together."""

from __future__ import annotations

import numpy as np
import pytest

from whence.errors import BadOption
from whence.evaluation import tie_points
from whence.studies import get_study
from whence.studies.frame import Budget, resolve_options, run_study
from whence.studies.registration_settings import SUMMARIES
from whence.worlds.earth.radar import RadarSpec, render_pair, render_radar


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("radar") / "pairs"
    summary = render_radar(folder, RadarSpec(seed=4, num_pairs=2, side_px=160))
    assert (summary.num_pairs, summary.num_rendered) == (2, 2)
    assert render_radar(folder, RadarSpec(seed=4, num_pairs=2, side_px=160)).num_rendered == 0
    return folder


def test_there_are_sixteen_settings_for_each_matcher():
    study = get_study("registration")
    runs = study.grid(resolve_options(study, {"data": "x", "matchers": "orientation orb-mnn"}))
    plain = [run for run in runs if run.settings["geometry"] not in SUMMARIES]
    assert len(plain) == 2 * 16
    assert len({run.key for run in runs}) == len(runs) == 2 * (16 + len(SUMMARIES))
    # Whole images know no overlap, and tiles do not overlap by themselves.
    options = resolve_options(
        study, {"data": "x", "matchers": "orientation", "tiles": "0 256", "sides": "0"}
    )
    overlaps = [
        (run.settings["tile"], run.settings["overlap"])
        for run in study.grid(options)
        if "tile" in run.settings
    ]
    assert set(overlaps) == {(0, 0), (256, 128)}


def test_settings_share_their_matches(pairs, tmp_path, monkeypatch):
    options = {
        "data": str(pairs),
        "matchers": "orientation",
        "sides": "0",
        "tiles": "0 128",
        "overlaps": "32",
        "inliers": "4 8",
    }
    study, made = get_study("registration"), []
    matched = tie_points.match_tiles
    monkeypatch.setattr(tie_points, "match_tiles", lambda *args: made.append(1) or matched(*args))
    found = run_study(study, out=tmp_path / "s", options=options)
    assert all(run.is_done for run in found.runs), [run.reason for run in found.runs]
    assert len(made) == 2 * 2, "two pairs, with tiles and without, for two geometries and two gates"
    *settings, affine, homography, together = found.runs
    assert len(settings) == 8
    means = [run.values["mean"].value for run in settings if run.values["failed"].value <= 0.5]
    if means:
        assert together.values["worst over best"].value == pytest.approx(max(means) / min(means))
    assert affine.run.settings["geometry"] == "mean of affine"
    assert homography.values["failed"].value == pytest.approx(
        sum(
            run.values["failed"].value
            for run in settings
            if run.run.settings["geometry"] == "homography"
        )
        / 4
    )
    part = run_study(
        study, out=tmp_path / "t", options=options, budget=Budget(only=("all_settings",))
    )
    assert "not measured yet" in part.runs[-1].reason
    turned = {**options, "matchers": "orientation:turned orientation:around", "tiles": "0"}
    ways = run_study(
        study,
        out=tmp_path / "v",
        options=turned,
        budget=Budget(only=("geometry=affine,inliers=4",)),
    ).runs
    assert [run.is_done for run in ways if run.run.key.endswith("geometry=affine,inliers=4")] == [
        True,
        False,
    ]
    assert any("NAME:turned" in run.reason for run in ways)
    again = run_study(
        study,
        out=tmp_path / "u",
        options={**options, "kinds": "nothing"},
        budget=Budget(only=("affine",)),
    )
    assert "no pairs of the kind" in again.runs[0].reason


def test_rendered_tie_points_know_what_heights_displace():
    pair = render_pair(RadarSpec(seed=4, side_px=96), 1)
    assert pair.sar.shape == (96, 96)
    assert pair.optical.shape == (96, 96, 3)
    assert len(pair.ties) > 200
    assert ((pair.ties >= 0) & (pair.ties <= 95)).all()
    # Beside a similarity there is what heights move, and that along the camera's rows alone.
    system = np.column_stack([pair.ties[:, :2], np.ones(len(pair.ties))])
    left = pair.ties[:, 2:] - system @ np.linalg.lstsq(system, pair.ties[:, 2:], rcond=None)[0]
    across, down = np.abs(left).max(axis=0)
    assert down < 1e-3
    assert across > 0.2
    with pytest.raises(BadOption, match="4,096"):
        RadarSpec(side_px=10_000)
