"""A small language model that looks things up in made-up logs, and CompLLM's compressor over it or
over any other."""

from __future__ import annotations

from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.texts import (
    AnsweredOptions,
    CompressorOptions,
    LanguageOptions,
    TextsOptions,
)
from whence.training.recipe import Recipe

LANGUAGE = Recipe(
    name="log-language-small",
    summary=(
        "a small language model that answers from made-up logs (whence world logs); minutes on "
        "one core"
    ),
    learner=LanguageOptions(),
    branches=(TextsOptions(least_records=2, most_records=16, grow_steps=1500, question_words=1),),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=0.01, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=100, final_share=0.05),
    loop=LoopOptions(num_steps=2500, log_every=100, validate_every=500, save_every=500),
    validate_on=AnsweredOptions(),
)
COMPRESSOR_SMALL = Recipe(
    name="compllm-small",
    summary=(
        "half as many vectors for a log, learned from what that language model thinks (--set "
        "learner.model=FOLDER)"
    ),
    learner=CompressorOptions(),
    branches=(TextsOptions(batch_size=16, most_records=16),),
    optimizer=OptimizerOptions("adamw", lr=2e-3, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.05),
    loop=LoopOptions(num_steps=1000, log_every=100, validate_every=500, save_every=250),
    validate_on=AnsweredOptions(),
)
COMPRESSOR = Recipe(
    name="compllm",
    summary=(
        "CompLLM for a language model of billions of weights: logs of one to two thousand tokens; "
        "needs a GPU for days"
    ),
    learner=CompressorOptions(rank=64),
    branches=(TextsOptions(batch_size=16, least_records=20, most_records=100, num_questions=1),),
    optimizer=OptimizerOptions("adamw", lr=1e-4, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=1000),
    loop=LoopOptions(
        num_steps=30_000, precision="bf16", log_every=100, validate_every=2000, save_every=1000
    ),
    validate_on=AnsweredOptions(num_records=100, num_questions=1),
)
RECIPES = (LANGUAGE, COMPRESSOR_SMALL, COMPRESSOR)
