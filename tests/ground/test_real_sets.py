"""The main job on real photos: what the README says about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whence import cli

pytestmark = pytest.mark.real


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict:
    assert cli.run(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def num_right(result: dict, *, n: int = 1, threshold_m: float | None = None) -> tuple[int, int]:
    found = [
        one
        for one in result["recalls"]
        if one["n"] == n and one["threshold_m"] == threshold_m and one["counted"] == "all"
    ]
    assert len(found) == 1
    return found[0]["num_right"], found[0]["num_queries"]


def test_stockholm_buildings(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(capsys, real_data / "stockholm-buildings" / "positives.csv")
    assert (result["num_database"], result["vocabulary"]) == (75, "fitted")
    right, num = num_right(result)
    assert num == 25
    assert right >= 24


def test_gardens_point_dense(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(
        capsys, real_data / "gardens-point-thumbs", "--set", "frames=2", "--model", "densevlad"
    )
    assert result["vocabulary"] == "fitted"
    right, num = num_right(result)
    assert num == 200
    assert right / num >= 0.80


def test_lund_street_from_exif_alone(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(
        capsys, real_data / "geotagged-lund-berlin" / "lund" / "images", "--leave-one-out"
    )
    position = result["position"]
    assert position["num_queries"] == 29
    assert next(one for one in position["within"] if one["within_m"] == 25)["share"] >= 0.9
    assert position["median_error_m"] <= 10
