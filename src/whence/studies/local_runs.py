"""How the runs of the study of local features are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.data.scan import scan_photos
from whence.errors import BadOption, MissingExtra
from whence.evaluation.keypoints import (
    corner_error_px,
    matching_accuracy,
    repeatability,
    rescaled,
    spread,
)
from whence.evaluation.metrics import bootstrap_interval
from whence.matching.asymmetric import AsymmetricNearest
from whence.matching.geometry import GeometrySettings, fit_geometry
from whence.matching.matchers import MutualNearest
from whence.models.engines.local_graph import DESCRIPTORS, LOGITS, dense_graph
from whence.models.engines.onnx_graph import open_graph
from whence.models.local.own import DenseExtractor, open_own_features
from whence.models.local.peaks import find_peaks
from whence.models.local.persistence import find_prominent
from whence.models.local.sift import RootSift
from whence.parts import Matcher, prepare_query
from whence.recipes import get_recipe
from whence.registry import build
from whence.runtime import random_stream, threads
from whence.studies.frame import Run, Settings, Value
from whence.studies.local_arms import ALONE, CLASSIC, OTHER, PAIRINGS, SAME, STRANGER, TEACHER
from whence.training.recipe import Recipe, override

SIZE_PX = (320, 240)
_PAIR, _NOISE = 161, 162
_NUM_TIMED = 5
Detect = Callable[[np.ndarray, int], np.ndarray]


class TestPair(NamedTuple):
    """Two grey views (H, W) uint8 and the homography (3, 3) from the first to the second."""

    first: np.ndarray
    second: np.ndarray
    matrix: np.ndarray


def measure_local(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The measures of one arm. Raises `BadOption`, `MissingExtra`, and what opening or training its
    parts raises."""
    with threads(1):
        return _PARTS[str(run["part"])](run, options, work)


def _sizes(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """How large a network is, and how long it takes, in float32 and in int8."""
    name = str(run["arm"])
    grey = random_stream(0, _NOISE).integers(0, 256, (SIZE_PX[1], SIZE_PX[0])).astype(np.uint8)
    if name == "sift":
        photo = next(_views(str(options["data"]), 1, SAME)).first
        return {"time": Value(_milliseconds(lambda: RootSift(2000).extract(photo)))}
    from whence.models.engines.export import quantised
    from whence.models.local.dense import count_multiplications, count_weights, make_dense_network

    network = make_dense_network(name)
    model = dense_graph({key: value.numpy() for key, value in network.state_dict().items()})
    values = grey[None, None].astype(np.float32) / 255
    plain, small = (
        open_graph(one, (LOGITS, DESCRIPTORS)) for one in (model, quantised(model, [values]))
    )
    return {
        "weights": Value(float(count_weights(network))),
        "multiplications": Value(count_multiplications(network) / 1e9),
        "time": Value(_milliseconds(lambda: plain(values))),
        "int8": Value(_milliseconds(lambda: small(values))),
    }


def _pairings(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """How well a student's queries match a teacher's map."""
    arm, points = str(run["arm"]), int(run["points"])
    teacher = _opened(
        _trained(
            "asymloc-small-teacher", "teacher", [], int(options["teacher_steps"]), options, work
        ),
        points,
    )
    if arm == TEACHER:
        return _matched(MutualNearest(teacher, 1.0), teacher, options)
    loss = PAIRINGS[arm]
    changes = [f"loss.name={loss}"]
    if loss != "silk":
        changes.append(f"teacher={_weights('teacher', work)}")
    student = _opened(
        _trained(
            "asymloc-small-student",
            f"student {loss}",
            changes,
            int(options["steps"]),
            options,
            work,
        ),
        points,
    )
    matcher: Matcher = (
        MutualNearest(student, 1.0) if arm == ALONE else AsymmetricNearest(teacher, student)
    )
    if arm not in (ALONE, STRANGER) and not student.taught_by[0]:
        raise BadOption(
            f"{student.card.name} does not say whose descriptors it learned; train it anew in "
            "another folder"
        )
    return _matched(matcher, student, options)


def _features(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """How well registered matchers find the homography of views in the same light, or in
    another."""
    name, points = str(run["arm"]), int(run["points"])
    own = {"weights": str(options["weights"])} if "aliked" in name and options["weights"] else {}
    matcher = build("matcher", name, options={"max_keypoints": points, **own})
    return _matched(matcher, None, options, light=str(run["light"]))


def _matched(
    matcher: Matcher, asking: DenseExtractor | None, options: Settings, *, light: str = "any"
) -> dict[str, Value]:
    """Accuracy, shares of right homographies, matches and milliseconds of a query."""
    accuracies, errors, counts, spent = [], [], [], []
    for pair in _views(str(options["data"]), int(options["pairs"]), light):
        first, second = (
            np.repeat(grey[..., None], 3, axis=2) for grey in (pair.first, pair.second)
        )
        started = time.process_time()
        asked = prepare_query(matcher, first)
        spent.append(time.process_time() - started)
        found = next(iter(matcher.match(asked, [matcher.prepare(second)])))
        assert found is not None, "the second view was prepared"
        size = (pair.first.shape[1], pair.first.shape[0])
        fitted = fit_geometry(
            found.points0, found.points1, size0_px=size, size1_px=size, settings=GeometrySettings()
        )
        accuracies.append(matching_accuracy(found, pair.matrix))
        errors.append(corner_error_px(fitted.matrix, pair.matrix, size_px=size))
        counts.append(len(found.points0))
    if not accuracies:
        raise BadOption(f"{options['data']} has no views in the light that is asked for")
    gaps = np.array(errors)
    return {
        "accuracy": _share(np.array(accuracies)),
        **{f"within {limit} px": _share(gaps <= limit) for limit in (1, 3, 5)},
        "matches": Value(float(np.mean(counts))),
        "time": Value(1000 * float(np.median(spent))),
    }


def _detectors(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """How many keypoints are found again in another view, and at other sizes."""
    arm, num = str(run["arm"]), int(run["points"])
    detect = _detector(arm, options, work)
    found: dict[str, list[float]] = {
        "repeated": [],
        "repeated at 75 %": [],
        "repeated at 50 %": [],
        "spread": [],
    }
    for pair in _views(str(options["data"]), int(options["pairs"]), SAME):
        first = detect(pair.first, num)
        size = (pair.first.shape[1], pair.first.shape[0])
        found["spread"].append(spread(first, size_px=size))
        found["repeated"].append(
            repeatability(
                first, detect(pair.second, num), pair.matrix, size0_px=size, size1_px=size
            )
        )
        for share in (75, 50):
            smaller = (size[0] * share // 100, size[1] * share // 100)
            resized = cv2.resize(pair.first, smaller, interpolation=cv2.INTER_AREA)
            matrix = rescaled(np.eye(3), (1.0, 1.0), (smaller[0] / size[0], smaller[1] / size[1]))
            again = detect(resized, num)
            found[f"repeated at {share} %"].append(
                repeatability(first, again, matrix, size0_px=size, size1_px=smaller)
            )
    return {name: _share(np.nan_to_num(np.array(values))) for name, values in found.items()}


def _detector(arm: str, options: Settings, work: Path) -> Detect:
    if arm in CLASSIC:
        return _CLASSIC[arm]
    loss, _, ranking = arm.partition(", by ")
    changes = (
        ["loss.name=patches"]
        if loss == "patches"
        else [f"loss.alpha={loss.removeprefix('alpha ')}"]
    )
    file = _trained("morsedet-small", loss, changes, int(options["steps"]), options, work)
    from whence.models.local.dense import open_heights

    heights = open_heights(file)

    def detect(grey: np.ndarray, num: int) -> np.ndarray:
        found = heights(grey)
        # Peaks of three by three pixels, as published; or the most prominent ones.
        peaks = (
            find_prominent(found, max_points=num)
            if ranking
            else find_peaks(found, max_points=num, radius_px=1)
        )
        return peaks.points

    return detect


def _sift_points(grey: np.ndarray, num: int) -> np.ndarray:
    return _strongest(cv2.SIFT.create().detect(grey, None), num)


def _fast_points(grey: np.ndarray, num: int) -> np.ndarray:
    return _strongest(cv2.FastFeatureDetector.create(5).detect(grey, None), num)


def _strongest(keypoints: Any, num: int) -> np.ndarray:
    best = sorted(keypoints, key=lambda one: -one.response)[:num]
    return np.array([one.pt for one in best], np.float32).reshape(-1, 2)


def _harris_points(grey: np.ndarray, num: int) -> np.ndarray:
    found = cv2.goodFeaturesToTrack(grey, num, 1e-4, 3, useHarrisDetector=True)
    return np.zeros((0, 2), np.float32) if found is None else found[:, 0]


_CLASSIC: dict[str, Detect] = {"SIFT": _sift_points, "FAST": _fast_points, "Harris": _harris_points}


def _trained(
    recipe: str, name: str, changes: list[str], steps: int, options: Settings, work: Path
) -> Path:
    """The file of a training in the work folder, which goes on where it was stopped."""
    file = _weights(name, work)
    if not file.is_file():
        try:
            from whence.training.train import train
        except ModuleNotFoundError:
            raise MissingExtra("training", "torch,train") from None
        chosen: Recipe = override(get_recipe(recipe), [f"loop.num_steps={steps}", *changes])
        is_begun = (file.parent / "recipe.json").is_file()
        pixels = work / "pixels"
        train(
            chosen,
            str(options["train"]),
            out=file.parent,
            pixels_folder=pixels,
            is_resumed=is_begun,
            show_progress=False,
        )
    return file


def _weights(name: str, work: Path) -> Path:
    return work / "trainings" / Run({"network": name}).key / "final.safetensors"


def _opened(file: Path, points: int) -> DenseExtractor:
    return open_own_features(max_keypoints=points, weights=str(file))


@lru_cache(maxsize=1)
def _photos(folder: str) -> Any:
    from whence.training.branches.homographies import find_same_point

    photos = scan_photos(folder, show_progress=False)
    return photos, find_same_point(photos, Path(folder), (400, 300))


def _views(folder: str, num: int, light: str) -> Iterator[TestPair]:
    """Pairs of views, the same ones every time; in any light, the same, or another."""
    from whence.training.branches.homographies import cut_view, draw_beside, draw_matrix
    from whence.training.options.local import ViewOptions
    from whence.training.pixels import read_at

    photos, same = _photos(folder)
    seen = ViewOptions(width=SIZE_PX[0], height=SIZE_PX[1], rotation_deg=15.0)
    rows = np.array(sorted(same.others)) if light == OTHER else same.rows
    for number in range(num if len(rows) else 0):
        random = random_stream(0, _PAIR, number)
        row = int(random.choice(rows))
        size = (seen.stored_width, seen.stored_height)
        first = draw_matrix(random, seen, size)
        second = draw_beside(random, seen, size, first)
        shown, between = row, np.eye(3)
        if (
            row in same.others
            and light != SAME
            and (light == OTHER or random.random() < seen.other_share)
        ):
            shown, between = same.others[row][0]
        pixels = [read_at(photos.file(one), *size) for one in (row, shown)]
        cuts = (
            cut_view(pixels[0], first, seen, random, row),
            cut_view(pixels[1], second @ np.linalg.inv(between), seen, random, shown),
        )
        yield TestPair(cuts[0].grey, cuts[1].grey, second @ np.linalg.inv(first))


def _milliseconds(run: Callable[[], object]) -> float:
    run()
    spent = []
    for _ in range(_NUM_TIMED):
        started = time.process_time()
        run()
        spent.append(time.process_time() - started)
    return 1000 * float(np.median(spent))


def _share(values: np.ndarray) -> Value:
    return Value(float(values.mean()), *bootstrap_interval(values.astype(float)))


_PARTS: dict[str, Callable[[Settings, Settings, Path], dict[str, Value]]] = {
    "sizes": _sizes,
    "pairings": _pairings,
    "detectors": _detectors,
    "features": _features,
}
