"""How the runs of the study of compressed logs are measured."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.data.texts import read_texts
from whence.evaluation.metrics import bootstrap_interval
from whence.recipes import get_recipe
from whence.runtime import random_stream, threads
from whence.studies.compllm_arms import (
    ANEW,
    CACHED,
    COMPRESSED,
    EVERY_SECOND,
    LAST_HALF,
    MEANS,
    PLAIN,
    WHOLE,
)
from whence.studies.frame import Settings, Value
from whence.training.options.texts import AnsweredOptions
from whence.training.recipe import override

if TYPE_CHECKING:
    from torch import Tensor

    from whence.models.tokens.context import Compressor, LanguageModel
    from whence.training.branches.texts import Context

_QUESTIONS, _LOG = 186, 187
_SEGMENT, _RATE = 20, 2
_QUESTION = 8
"""Tokens of the question that follows a log whose reading is timed."""


def measure_compllm(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The measures of one arm. Raises `MissingExtra`, and what training its parts raises."""
    with threads(1):
        return (_answers if run["part"] == "answers" else _reading)(run, options, work)


def _answers(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The share of questions whose answer is the likeliest next token."""
    from whence.training.branches.texts import draw_context
    from whence.training.text_learners import answered_after

    arm, num = str(run["arm"]), int(run["records"])
    rate = COMPRESSED.get(arm, _RATE)
    model = _model(str(options["model"]))
    compressor, spent = (
        (None, 0.0) if arm not in (*COMPRESSED, WHOLE) else _compressor(rate, options, work)
    )
    asked, sizes, right = AnsweredOptions(num_records=num), [], []
    for number, log in enumerate(
        read_texts(str(options["logs"]), split="test")[: int(options["test_logs"])]
    ):
        context = draw_context(
            log, random_stream(0, _QUESTIONS, number), asked, model.ids, num_records=num
        )
        start = _shortened(arm, context, model, compressor)
        sizes.append(len(start))
        learner = model.network if compressor is None else compressor
        right.append(answered_after(learner, start, context.questions).float().mean().item())
    values = {
        "right": Value(float(np.mean(right)), *bootstrap_interval(np.array(right))),
        "inputs": Value(float(np.mean(sizes))),
    }
    return values if compressor is None else {**values, "training": Value(spent)}


def _shortened(
    arm: str, context: Context, model: LanguageModel, compressor: Compressor | None
) -> Tensor:
    """(m, d) what stands for a log."""
    import torch

    from whence.models.tokens.segments import segment_records

    flat = [one for record in context.records for one in record]
    if compressor is not None:
        segments = [tuple(flat)] if arm == WHOLE else segment_records(context.records, _SEGMENT)
        return compressor.compress(segments)
    values: Tensor = model.network.get_input_embeddings().weight[torch.tensor(flat)]
    if arm == MEANS:
        pairs = values[: len(values) // 2 * 2].unflatten(0, (-1, 2)).mean(dim=1)
        return torch.cat([pairs, values[len(values) // 2 * 2 :]])
    if arm == EVERY_SECOND:
        return values[::2]
    return values[len(values) // 2 :] if arm == LAST_HALF else values


def _reading(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """CPU seconds until the first token of an answer is known."""
    import torch

    from whence.models.tokens.context import kept_bytes
    from whence.models.tokens.segments import SegmentCache, segment

    arm, num, width = str(run["arm"]), 5 * int(run["records"]), int(options["width"])
    compressor = _timed(width)
    ids = (
        random_stream(0, _LOG, num)
        .integers(2, len(compressor.table()), size=num + _QUESTION)
        .tolist()
    )
    table, question = compressor.table(), torch.tensor(ids[num:])
    segments = segment(ids[:num], _SEGMENT)
    found = {}
    if arm == PLAIN:
        start = table[torch.tensor(ids[:num])]
    else:
        with SegmentCache.of_file() as cache:
            compressor.compress(segments[:4])
            started = time.process_time()
            compressor.compress(segments, cache=cache)
            found["compressing"] = Value(time.process_time() - started)
            started = time.process_time()
            start = compressor.compress(segments, cache=cache)
            again = time.process_time() - started
    with compressor.answering() as network, torch.inference_mode():
        _first_token(network, torch.cat([start[:64], table[question]]))
        started = time.process_time()
        _first_token(network, torch.cat([start, table[question]]))
        read = time.process_time() - started
    found["inputs"] = Value(float(len(start)))
    found["kept"] = Value(kept_bytes(compressor.network, len(start) + _QUESTION) / 1e6)
    found["first token"] = Value(
        read + (found["compressing"].value if arm == ANEW else again if arm == CACHED else 0.0)
    )
    found["second question"] = Value(read if arm == PLAIN else read + again)
    return found


def _first_token(network: Any, values: Tensor) -> int:
    """The likeliest token after inputs (n, d), what is needed to go on being kept."""
    found = network(inputs_embeds=values[None], use_cache=True, logits_to_keep=1)
    return int(found.logits[0, -1].argmax())


@lru_cache(maxsize=1)
def _model(folder: str) -> LanguageModel:
    from whence.models.tokens.context import LanguageModel

    return LanguageModel.of_folder(folder)


@lru_cache(maxsize=1)
def _timed(width: int) -> Compressor:
    """A compressor over a model of random weights: what it says means nothing, how long it takes
    does."""
    import torch

    from whence.models.tokens.context import Compression, Compressor
    from whence.training.options.texts import LanguageOptions
    from whence.training.text_learners import LanguageLearner

    sizes = LanguageOptions(
        width=width, depth=4, num_heads=4, head_width=width // 4, hidden=8 * width // 3
    )
    learner = LanguageLearner(sizes, recipe="", seed=0, size_px=(0, 0), device=torch.device("cpu"))
    network = learner.module.eval()
    return Compressor(network, Compression(_SEGMENT, _RATE), end_id=0).eval().requires_grad_(False)


def _compressor(rate: int, options: Settings, work: Path) -> tuple[Compressor, float]:
    """The compressor of a rate, trained where it is not there yet, and the seconds of CPU that
    took; 0 where it was there."""
    from whence.models.tokens.context import COMPRESSOR, Compressor, LanguageModel
    from whence.training.train import train

    file, spent = work / "trainings" / f"rate {rate}" / COMPRESSOR, 0.0
    if not file.is_file():
        started = time.process_time()
        changes = [
            f"learner.model={options['model']}",
            f"learner.rate={rate}",
            f"loop.num_steps={options['steps']}",
        ]
        changes.append(f"most_records={options['records']}")
        recipe = override(get_recipe("compllm-small"), changes)
        train(
            recipe,
            str(options["logs"]),
            out=file.parent,
            pixels_folder=work,
            is_resumed=True,
            show_progress=False,
        )
        spent = time.process_time() - started
    # LoRA is put into the model it is given: the one that answers plainly stays as it is.
    return Compressor.of_file(file, LanguageModel.of_folder(str(options["model"])).network), spent
