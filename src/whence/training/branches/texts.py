"""The branch of texts: logs with questions, from which a language model learns answers, and a
compressor what it thinks of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from whence.data.texts import TextLog, read_texts
from whence.errors import BadOption
from whence.models.tokens.context import COMPRESSOR, Compressor, header_text
from whence.models.tokens.segments import segment_records
from whence.runtime import atomic_write, random_stream
from whence.training.branches.places import Batch, shard
from whence.training.losses.clips import hidden_loss
from whence.training.options.texts import AnsweredOptions, TextsOptions
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

MODEL_FOLDER = "model"
"""Where a training of a language model leaves it, as transformers reads it."""
_FORMAT = {
    "record": "$hour: $five_minutes $weather $status ;",
    "question": "? $question",
    "num_new": 1,
}
"""How rows of a journal are put to a model that learned from made-up logs."""
_ORDER, _CONTEXT = 182, 183
_Ids = Callable[[str], list[int]]


class Asked(NamedTuple):
    """Questions with their answers, one after the other."""

    ids: list[int]
    places: list[int]
    """Where among the ids each answer's tokens are."""


class Context(NamedTuple):
    """A log cut short, and what is asked about it."""

    records: list[list[int]]
    questions: Asked


def draw_context(
    log: TextLog,
    random: np.random.Generator,
    options: TextsOptions | AnsweredOptions,
    ids: _Ids,
    *,
    num_records: int,
) -> Context:
    """So many records of a log in a row, and questions about them. Raises `BadOption` for records
    that lack the words asked for."""
    num = min(num_records, len(log.records))
    first = int(random.integers(len(log.records) - num + 1))
    records = log.records[first : first + num]
    if log.questions:
        pairs = [
            log.questions[k]
            for k in random.permutation(len(log.questions))[: options.num_questions]
        ]
        records = log.records
    else:
        pairs = [
            _question(records[int(k)], options)
            for k in random.integers(num, size=options.num_questions)
        ]
    found, places = list[int](), list[int]()
    for question, answer in pairs:
        found += ids(question)
        said = ids(answer)
        places += range(len(found), len(found) + len(said))
        found += said
    return Context([ids(record) for record in records], Asked(found, places))


def _question(record: str, options: TextsOptions | AnsweredOptions) -> tuple[str, str]:
    words = record.split()
    try:
        return options.question.format(*words), words[options.answer]
    except IndexError:
        raise BadOption(
            f"the record {record!r} has no word that question and answer name; change question "
            "and answer"
        ) from None


def words_before(questions: Asked, num: int) -> list[int]:
    """Places of up to `num` tokens before each answer, of the question that it answers."""
    answers = set(questions.places)
    firsts = [place for place in questions.places if place - 1 not in answers]
    found = []
    for place in firsts:
        for before in range(place - 1, max(place - 1 - num, -1), -1):
            if before in answers:
                break
            found.append(before)
    return found


def embed(learner: nn.Module, context: Context) -> Tensor:
    """(m, d) inputs that stand for a context: compressed by a compressor, else its tokens."""
    device = next(learner.parameters()).device
    if isinstance(learner, Compressor):
        segments = segment_records(context.records, learner.compression.segment)
        return compress_all(learner, [segments])[0]
    flat = torch.tensor([one for record in context.records for one in record], device=device)
    table: Tensor = learner.get_input_embeddings().weight  # type: ignore[operator]
    return table[flat]


def compress_all(compressor: Compressor, contexts: list[list[tuple[int, ...]]]) -> list[Tensor]:
    """(m, d) vectors of each context's segments, all computed together by length, through which
    gradients flow."""
    device = next(compressor.parameters()).device
    lengths = sorted({len(one) for context in contexts for one in context})
    found: dict[tuple[int, int], Tensor] = {}
    for length in lengths:
        where = [
            (k, n)
            for k, context in enumerate(contexts)
            for n, one in enumerate(context)
            if len(one) == length
        ]
        made = compressor.compress_batch(
            torch.tensor([contexts[k][n] for k, n in where], device=device)
        )
        found |= dict(zip(where, made, strict=True))
    return [
        torch.cat([found[k, n] for n in range(len(context))]) for k, context in enumerate(contexts)
    ]


class TextBranch(Branch):
    """All logs once an epoch, in a random order, each cut short anew."""

    def __init__(self, options: TextsOptions, setup: Setup) -> None:
        """Raises as `read_texts`, and `BadOption` for fewer logs than a batch."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.logs = read_texts(setup.data.folder("logs"), split="train")
        if (
            not 1 <= options.batch_size <= len(self.logs)
            or not 1 <= options.least_records <= options.most_records
        ):
            raise BadOption(
                f"batches of {options.batch_size} of {len(self.logs)} logs are not possible; "
                "change batch_size or records"
            )

    def describe_data(self) -> dict[str, Any]:
        return {"num_logs": len(self.logs)}

    def num_batches(self, epoch: int) -> int:
        return len(self.logs) // self.options.batch_size

    def read(self, place: BatchPlace, share: Share) -> Read:
        size, options = self.options.batch_size, self.options
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(len(self.logs))
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows
        step = place.epoch * self.num_batches(place.epoch) + place.number
        grown = min(1.0, step / options.grow_steps) if options.grow_steps else 1.0
        most = round(options.least_records + grown * (options.most_records - options.least_records))
        # One number for the whole batch, so that all contexts are of one length.
        num = int(
            random_stream(self.setup.seed, _CONTEXT, *place).integers(
                options.least_records, most + 1
            )
        )
        ids = self.setup.learner.ids
        contexts = [
            draw_context(
                self.logs[row],
                random_stream(self.setup.seed, _CONTEXT, *place, row),
                options,
                ids,
                num_records=num,
            )
            for row in rows.tolist()
        ]
        return Read(contexts, len(contexts))

    def learn(self, learner: nn.Module, content: list[Context], draw: Draw) -> Losses:
        with draw.autocast():
            return (
                self._distil(learner, content)
                if isinstance(learner, Compressor)
                else self._answers(learner, content, draw)
            )

    def _answers(self, learner: nn.Module, content: list[Context], draw: Draw) -> Losses:
        """The cross-entropy of the answers' tokens, and of as many before them as are learned."""
        rows = [[one for record in context.records for one in record] for context in content]
        lengths = [
            len(row) + len(context.questions.ids)
            for row, context in zip(rows, content, strict=True)
        ]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        wanted, is_answer = torch.full_like(ids, -100), torch.zeros_like(ids, dtype=torch.bool)
        num_words = self.options.question_words
        for k, (row, context) in enumerate(zip(rows, content, strict=True)):
            whole = torch.tensor([*row, *context.questions.ids])
            ids[k, : len(whole)] = whole
            places = len(row) + torch.tensor(context.questions.places)
            wanted[k, places] = whole[places]
            is_answer[k, places] = True
            before = len(row) + torch.tensor(
                words_before(context.questions, num_words), dtype=torch.long
            )
            wanted[k, before] = whole[before]
        ids, wanted = ids.to(draw.device), wanted.to(draw.device)
        is_answer = is_answer.to(draw.device)
        # What is over stands behind all that is asked, which does not see it.
        logits = learner(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=-100
        )
        right = (logits.argmax(dim=-1) == wanted[:, 1:])[is_answer[:, 1:]]
        return Losses(loss, {"right": right.float().mean().detach()})

    def _distil(self, learner: Compressor, content: list[Context]) -> Losses:
        """How far hidden states at the answers, and just before them, are from those after the log
        as it is."""
        table = learner.table()
        segments = [
            segment_records(context.records, learner.compression.segment) for context in content
        ]
        compressed = compress_all(learner, segments)
        groups = defaultdict(list)
        for k, (vectors, context) in enumerate(zip(compressed, content, strict=True)):
            groups[
                len(vectors), sum(map(len, context.records)), tuple(context.questions.places)
            ].append(k)
        parts = []
        with learner.answering() as network:
            for (_, _, where), rows in groups.items():
                asked = table[
                    torch.tensor([content[k].questions.ids for k in rows], device=table.device)
                ]
                flat = [[one for record in content[k].records for one in record] for k in rows]
                plain = table[torch.tensor(flat, device=table.device)]
                places = torch.tensor(where, device=table.device)
                chosen = torch.cat([places - 1, places]).unique() - asked.shape[1]
                with torch.no_grad():
                    taught = _hidden(network, torch.cat([plain, asked], dim=1))
                found = _hidden(
                    network, torch.cat([torch.stack([compressed[k] for k in rows]), asked], dim=1)
                )
                parts += [
                    hidden_loss(
                        [one[k, chosen] for one in found], [one[k, chosen] for one in taught]
                    )
                    for k in range(len(rows))
                ]
        sizes = torch.cat(compressed).square().mean().sqrt() / table.square().mean().sqrt()
        return Losses(torch.stack(parts).mean(), {"size": sizes.detach()})

    def finish(self, weights: Path) -> None:
        """Write what answers or compresses beside the last weights: a folder, or a file."""
        learner: Any = self.setup.learner
        if isinstance(learner.module, Compressor):
            tensors = {
                name: value.detach().contiguous().cpu()
                for name, value in learner.module.learned().items()
            }
            data = save(tensors, dict(header_text(learner.module)))
            with atomic_write(weights.parent / COMPRESSOR) as file:
                file.write(data)
            return
        write_language_model(weights.parent / MODEL_FOLDER, learner.module, learner.words)


def _hidden(network: Any, values: Tensor) -> list[Tensor]:
    """Hidden states (B, n, d) after each block of inputs (B, n, d)."""
    found = network.base_model(
        inputs_embeds=values, use_cache=False, output_hidden_states=True
    ).hidden_states
    return list(found[1:])


def write_language_model(folder: Path, network: Any, words: Any) -> None:
    """Write a language model as transformers reads it: config.json last, which stands for all.
    Raises `UnwritableFile`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().contiguous().cpu() for name, value in network.state_dict().items()
    }
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": words.eos_token,
        "pad_token": words.pad_token,
    }
    about |= {"unk_token": words.unk_token, "clean_up_tokenization_spaces": False}
    config = {**network.config.to_dict(), "architectures": [type(network).__name__]}
    files = {
        "model.safetensors": save(tensors, {"format": "pt"}),
        "tokenizer.json": words.backend_tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(about).encode(),
        "whence.json": json.dumps(_FORMAT, indent=1).encode(),
        "config.json": json.dumps(config, indent=1, default=str).encode(),
    }
    for name, data in files.items():
        with atomic_write(folder / name) as file:
            file.write(data)
