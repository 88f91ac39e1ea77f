"""The study of local features: its grid, runs that train nothing, and one pairing on a few
photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from whence.studies import get_study
from whence.studies.frame import Budget, resolve_options, run_study
from whence.studies.local_arms import ALONE, PAIRINGS, STRANGER, TEACHER
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few views, each by day and in another light from the same point."""
    folder = tmp_path_factory.mktemp("views")
    capture = CaptureOptions(width=200, height=150, conditions={"overcast": 1.0})
    options = WorldOptions(cities=(CitySize("city03", "", 6, 0, 0),), capture=capture)
    render_world(
        folder / "w", seed=9, options=options, layout="pairs", num_workers=1, show_progress=False
    )
    return folder


def given(views: Path) -> dict[str, str | int]:
    return {"train": str(views), "data": str(views), "pairs": 2, "steps": 2, "teacher_steps": 2}


def test_every_pairing_and_detector_has_its_runs() -> None:
    study = get_study("local")
    runs = [run.settings for run in study.grid(resolve_options(study, {"train": "a", "data": "b"}))]
    assert [run["arm"] for run in runs if run["part"] == "pairings"] == list(PAIRINGS)
    detectors = {(run["arm"], run["points"]) for run in runs if run["part"] == "detectors"}
    assert len(detectors) == 2 * (3 + 4 + 1 + 2)
    assert {run["light"] for run in runs if run["part"] == "features"} == {"same", "other"}
    assert len({tuple(run.items()) for run in runs}) == len(runs)


def measured(
    study: str, views: Path, out: Path, only: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    result = run_study(
        get_study(study), out=out, options=given(views), budget=Budget(only), show_progress=False
    )
    failed = [one.reason for one in result.runs if not one.is_done and one.reason != "not run"]
    assert failed == []
    return {
        f"{one.run.settings['arm']} {one.run.settings['light']}": {
            name: value.value for name, value in one.values.items()
        }
        for one in result.runs
        if one.is_done
    }


def test_detectors_features_and_sizes(views: Path, tmp_path: Path) -> None:
    found = measured(
        "local",
        views,
        tmp_path / "s",
        ("arm=SIFT,points=50", "arm=rootsift-mnn", "arm=whence-local,"),
    )
    assert set(found) == {
        "SIFT any",
        *(
            f"{name} {light}"
            for name in ("rootsift-mnn", "whence-local")
            for light in ("same", "other")
        ),
    }
    assert 0 < found["SIFT any"]["repeated at 75 %"] <= 1
    assert found["whence-local same"]["accuracy"] > 0.3
    assert found["whence-local same"]["within 1 px"] <= found["whence-local same"]["within 5 px"]


def test_int8_computes_too(views: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    found = measured("local", views, tmp_path / "s", ("arm=student-xs", "arm=sift"))
    assert found["student-xs any"]["weights"] == 44_083
    assert all(np.isfinite(found["student-xs any"][name]) for name in ("time", "int8"))
    assert set(found["sift any"]) == {"time"}


def test_students_ask_their_teacher_and_strangers_too(views: Path, tmp_path: Path) -> None:
    found = measured("local", views, tmp_path / "s", (f"arm={TEACHER}", "arm=naive"))
    assert {TEACHER, "naive"} == {name.removesuffix(" any") for name in found} - {ALONE, STRANGER}
    assert all(0 <= one["accuracy"] <= 1 for one in found.values())
