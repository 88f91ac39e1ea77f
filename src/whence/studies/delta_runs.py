"""How the runs of the study of tokens are measured."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.clips import Clips, read_clips
from whence.evaluation.metrics import bootstrap_interval
from whence.recipes import get_recipe
from whence.runtime import threads
from whence.studies.delta_arms import (
    CONTEXT,
    COPY,
    FORECASTS,
    NUM_ASKED,
    NUM_FETCHED,
    PRESENT,
    TOKENS,
)
from whence.studies.frame import Settings, Value
from whence.training.recipe import override
from whence.worlds.clips import CLASSES

if TYPE_CHECKING:
    from torch import Tensor

    from whence.models.tokens.opening import TokenModel
    from whence.training.clip_readouts import Score, Truth


def measure_delta(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The measures of one arm. Raises what training its parts raises."""
    with threads(1):
        return _PARTS[str(run["part"])](run, options, work)


def _made_again(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Errors of features made again from tokens, frame by frame, after a cut, and in a row."""
    from whence.models.tokens.delta import token_cost
    from whence.training.clip_readouts import decode_after, score

    arm, truth = str(run["arm"]), _truth(options)
    frame = truth.clips.length - 1
    if arm in (COPY, PRESENT):
        made = truth.features[:, frame if arm == PRESENT else frame - 1]
        return _values(score(truth, made, frame=frame, last=frame - 1))
    model, spent = trained_tokens(arm, options, work, seed=int(run["seed"]))
    found = _values(
        score(truth, decode_after(model, truth, frame=frame), frame=frame, last=frame - 1)
    )
    assert model.tokens is not None, "trained here"
    cost = token_cost(model.tokens.shape, num_patches=truth.features.shape[2])
    others = {"after a cut": {"is_cut": True}, "after 6 in a row": {"num_steps": 6}}
    for name, asked in others.items():
        apart = score(
            truth,
            decode_after(model, truth, frame=frame, **asked),  # type: ignore[arg-type]
            frame=frame,
            last=frame - 1,
        )
        found[name] = _mean(apart.error)
    found |= {
        "tokens a frame": Value(1.0),
        "multiplies": Value((cost.encode + cost.decode) / 1e6),
        "training": Value(spent),
    }
    return found


def _forecast(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Errors of the best and the mean of sampled forecasts."""
    from whence.models.tokens.delta import token_cost
    from whence.models.tokens.world import world_multiplies
    from whence.training.clip_readouts import best_sample, forecast_samples, score

    arm, steps, truth = str(run["arm"]), int(run["steps"]), _truth(options)
    frame = CONTEXT + steps - 1
    is_open = truth.clips.is_ambiguous
    assert is_open is not None, "rendered clips say it"
    if arm in (COPY, PRESENT):
        made = truth.features[:, frame if arm == PRESENT else CONTEXT - 1]
        plain = score(truth, made, frame=frame, last=CONTEXT - 1)
        return {**_values(plain), "open: error": _mean(plain.error[is_open])}
    model, spent = _trained_world(arm, options, work, seed=int(run["seed"]))
    samples = forecast_samples(
        model, truth, context=CONTEXT, steps=steps, num_samples=int(options["samples"])
    )
    best = score(truth, best_sample(truth, samples, frame=frame), frame=frame, last=CONTEXT - 1)
    mean = score(truth, samples.mean(dim=1), frame=frame, last=CONTEXT - 1)
    assert model.world is not None, "trained here"
    per = truth.features.shape[2] if model.tokens is None else 1
    multiplies = world_multiplies(model.world.shape, num_context=CONTEXT, per=per)
    if model.tokens is not None:
        multiplies += token_cost(model.tokens.shape, num_patches=truth.features.shape[2]).decode
    return {
        **_values(best),
        **{f"{name} of the mean": value for name, value in _values(mean).items()},
        "open: error": _mean(best.error[is_open]),
        "open: error of the mean": _mean(mean.error[is_open]),
        "tokens a frame": Value(float(per)),
        "multiplies": Value(multiplies / 1e6),
        "training": Value(spent),
    }


def _candidates(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """How many candidates of a frame had been fetched by its forecasts."""
    import torch

    from whence.training.clip_readouts import fetched_share, forecast_samples, pooled

    arm, steps, truth = str(run["arm"]), int(run["steps"]), _truth(options)
    frame = CONTEXT + steps - 1
    samples = truth.features[:, None, CONTEXT - 1]
    if arm != COPY:
        model, _ = _trained_world(arm, options, work, seed=int(run["seed"]))
        samples = forecast_samples(
            model, truth, context=CONTEXT, steps=steps, num_samples=int(options["samples"])
        )
    database = torch.cat(
        [pooled(part) for part in _database(str(options["clips"]), str(options["features"]))]
    )
    shares = fetched_share(
        truth, samples, database, frame=frame, num_asked=NUM_ASKED, num_fetched=NUM_FETCHED
    )
    return {"fetched": _mean(shares)}


@lru_cache(maxsize=1)
def _database(folder: str, features: str) -> list[Tensor]:
    """Features (T, P, D) of the frames of the first clips that were learned from."""
    from whence.models.tokens.opening import open_tokens

    clips, model = read_clips(folder, split="train"), open_tokens(features)
    return [
        model.features_of(clips.frames(np.array([row]))[0]) for row in range(min(200, len(clips)))
    ]


def _values(score: Score) -> dict[str, Value]:
    return {
        "error": _mean(score.error),
        "labels": Value(score.iou),
        "distance": Value(score.depth_m),
    }


def _mean(errors: np.ndarray) -> Value:
    return Value(float(errors.mean()), *bootstrap_interval(errors))


def _truth(options: Settings) -> Truth:
    return _truth_of(
        str(options["clips"]),
        str(options["features"]),
        int(options["test_clips"]),
        int(options["readout_steps"]),
    )


@lru_cache(maxsize=1)
def _truth_of(folder: str, features: str, num: int, steps: int) -> Truth:
    """Clips that are measured with, their features, and the readouts."""
    from whence.models.tokens.opening import open_tokens
    from whence.training.clip_readouts import fit_readouts, read_truth

    model = open_tokens(features)
    readouts = fit_readouts(
        model, read_clips(folder, split="train"), num_classes=len(CLASSES), num_steps=steps
    )
    return read_truth(model, _first(read_clips(folder, split="test"), num), readouts)


def _first(clips: Clips, num: int) -> Clips:
    """The first clips of all."""
    assert clips.places is not None, "rendered clips say it"
    assert clips.is_ambiguous is not None, "rendered clips say it"
    kept = slice(min(num, len(clips)))
    return Clips(
        clips.pixels,
        clips.rows[kept],
        clips.times_s[kept],
        clips.labels,
        clips.depth_m,
        clips.places[kept],
        clips.is_ambiguous[kept],
    )


def trained_tokens(
    arm: str, options: Settings, work: Path, *, seed: int
) -> tuple[TokenModel, float]:
    """The tokens of an arm, trained where they are not there yet, and the seconds of CPU that took;
    0 where they were there."""
    changes = [
        f"learner.features={options['features']}",
        f"loop.num_steps={options['steps']}",
        *TOKENS[arm],
    ]
    return _trained("deltatok-small", f"{arm} {seed}", changes, options, work, seed=seed)


def _trained_world(
    arm: str, options: Settings, work: Path, *, seed: int
) -> tuple[TokenModel, float]:
    below, changes = FORECASTS[arm]
    if below:
        trained_tokens(below, options, work, seed=seed)
        start = [
            f"learner.tokens={_file(f'{below} {seed}', work)}",
            f"loop.num_steps={options['world_steps']}",
        ]
    else:
        start = [
            f"learner.features={options['features']}",
            f"loop.num_steps={options['patch_steps']}",
        ]
    return _trained(
        "deltaworld-small", f"{arm} {seed}", [*start, *changes], options, work, seed=seed
    )


def _file(name: str, work: Path) -> Path:
    return work / "trainings" / name / "final.safetensors"


def _trained(
    recipe: str, name: str, changes: list[str], options: Settings, work: Path, *, seed: int
) -> tuple[TokenModel, float]:
    from whence.models.tokens.opening import open_tokens
    from whence.training.train import train

    file, spent = _file(name, work), 0.0
    if not file.is_file():
        started = time.process_time()
        chosen = override(get_recipe(recipe), [*changes, f"loop.seed={seed}"])
        data: Any = str(options["clips"])
        train(
            chosen,
            data,
            out=file.parent,
            pixels_folder=work / "pixels",
            is_resumed=True,
            show_progress=False,
        )
        spent = time.process_time() - started
    return open_tokens(file), spent


_PARTS = {"made again": _made_again, "forecast": _forecast, "candidates": _candidates}
