"""Texts: a small language model that learns to look things up in logs, and a compressor that learns
from a language model.

After Berton, Unnikrishnan, Tran, Shah: CompLLM, 2025. Rank, rates and steps are ours: they are not
published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions, LearnerOptions, ProbeOptions


@dataclass(frozen=True, slots=True)
class LanguageOptions(LearnerOptions):
    """A small language model (Llama's blocks), from random weights, with the words of made-up
    logs."""

    kind: Literal["language model"] = "language model"
    width: int = 64
    depth: int = 3
    num_heads: int = 4
    head_width: int = 32
    """Numbers of a head, whatever the width; narrower ones find out later how to look things up."""
    hidden: int = 172
    """Width of its feed-forward parts, which are gated; 172 has the weights of 256 without a
    gate."""


@dataclass(frozen=True, slots=True)
class CompressorOptions(LearnerOptions):
    """LoRA and a linear layer over a language model that stays as it is."""

    kind: Literal["compressor"] = "compressor"
    model: str = ""
    """The folder of the language model, as transformers writes them."""
    segment: int = 20
    rate: int = 2
    rank: int = 16


@dataclass(frozen=True, slots=True)
class TextsOptions(BranchOptions):
    """Logs cut short, with questions about them. The language model learns answers, a compressor
    what the model thinks of them."""

    kind: Literal["texts"] = "texts"
    batch_size: int = 32
    least_records: int = 5
    """Records of a context at first ..."""
    most_records: int = 30
    """... and at last; how many is drawn anew for each batch."""
    grow_steps: int = 0
    """Steps over which the most records go up from the least; 0 takes the most at once."""
    num_questions: int = 8
    question: str = "? {0} {1}"
    """A question about a record, by its words, where the logs have none of their own ..."""
    answer: int = 2
    """... and the word that answers it."""
    question_words: int = 0
    """Last words of a question that the language model learns beside the answer: which may stand
    there follows from those before and from the log, which teaches it to look there."""

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Logs."""
        from whence.data.texts import read_texts

        return {"num_logs": len(read_texts(data.folder("logs"), split="train"))}


@dataclass(frozen=True, slots=True)
class AnsweredOptions(ProbeOptions):
    """What the best weights are chosen by: the share of questions that are answered right, of a
    compressor from compressed logs."""

    kind: Literal["answered"] = "answered"
    num_logs: int = 40
    num_records: int = 15
    num_questions: int = 8
    question: str = "? {0} {1}"
    answer: int = 2

    @property
    def measured(self) -> str:
        """The name of what is logged."""
        return "questions answered"
