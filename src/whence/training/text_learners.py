"""What learns from texts: a small language model, a compressor over one; and the probe that counts
right answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.tokens.context import Compression, Compressor, LanguageModel, require_language
from whence.runtime import random_stream
from whence.training.branches.texts import Asked, Context, draw_context, embed
from whence.training.options.texts import AnsweredOptions, CompressorOptions, LanguageOptions
from whence.training.task import Probe, Setup
from whence.worlds.logs import WORDS

_QUESTIONS = 184
_END, _UNKNOWN = "<end>", "<unknown>"
_WORD_STD = 0.5


class LanguageLearner:
    """A language model of random weights, of one word a token."""

    card = None
    """It is no model of photos; `finish` of the branch writes its folder."""
    begins_anew = True

    def __init__(
        self,
        options: LanguageOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `MissingExtra`, and `BadOption` for heads of an odd width."""
        transformers = require_language()
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit

        if options.head_width % 2:
            raise BadOption(f"heads turn pairs of numbers; {options.head_width} is odd")
        words = {word: number for number, word in enumerate((_END, _UNKNOWN, *WORDS))}
        text = Tokenizer(WordLevel(words, unk_token=_UNKNOWN))
        text.pre_tokenizer = WhitespaceSplit()
        self.words = transformers.PreTrainedTokenizerFast(
            tokenizer_object=text,
            eos_token=_END,
            pad_token=_END,
            unk_token=_UNKNOWN,
            clean_up_tokenization_spaces=False,
        )
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=len(words),
            hidden_size=options.width,
            num_hidden_layers=options.depth,
            num_attention_heads=options.num_heads,
            head_dim=options.head_width,
            attention_bias=True,
            intermediate_size=options.hidden,
            max_position_embeddings=32_768,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
        self.module = transformers.LlamaForCausalLM(config)
        # With the 0.02 that transformers draws all weights from, so narrow a model does not find
        # out how to look things up: it guesses for thousands of steps. What a head asks whatever
        # the word, its biases, lets it look so many words back.
        for name, part in self.module.named_modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
                if name.endswith(("q_proj", "k_proj")):
                    nn.init.normal_(part.bias)
            elif isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=_WORD_STD)

    def ids(self, text: str) -> list[int]:
        """The ids of a text."""
        return list(self.words(text, add_special_tokens=False)["input_ids"])

    def describe_data(self) -> dict[str, Any]:
        """Nothing that the recipe does not say."""
        return {}


class CompressorLearner:
    """LoRA and a linear layer over a frozen language model."""

    card = None
    """It is no model of photos; `finish` of the branch writes its file."""
    begins_anew = True

    def __init__(
        self,
        options: CompressorOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `BadOption`, and as `LanguageModel.of_folder`."""
        if not options.model:
            raise BadOption(
                "say which language model is compressed for: --set learner.model=FOLDER"
            )
        self.model = LanguageModel.of_folder(options.model)
        torch.manual_seed(seed)
        end = self.model.words.eos_token_id
        if end is None:
            raise BadOption(
                f"{options.model!r} has no token that ends a text; vectors are read at such"
            )
        self.module = Compressor(
            self.model.network,
            Compression(options.segment, options.rate, options.rank),
            end_id=int(end),
        )

    def ids(self, text: str) -> list[int]:
        """The ids of a text."""
        return self.model.ids(text)

    def describe_data(self) -> dict[str, Any]:
        """The model below."""
        return {"model": Path(self.model.folder).name, "weights": self.module.base_digest}


class AnsweredProbe(Probe):
    """The share of questions about logs of the validation whose answer's first token is the
    likeliest."""

    def __init__(self, options: AnsweredOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        """Read the logs. Raises as `read_texts`."""
        from whence.data.texts import read_texts

        self.logs = read_texts(self.setup.data.folder("logs"), split="val")[: self.options.num_logs]

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """The share as "recall"."""
        ids, options = self.setup.learner.ids, self.options
        asked = [
            draw_context(
                log,
                random_stream(0, _QUESTIONS, number),
                options,
                ids,
                num_records=options.num_records,
            )
            for number, log in enumerate(self.logs)
        ]
        was_training = learner.training
        learner.eval()
        try:
            right = torch.cat([answered(learner, one) for one in asked])
        finally:
            learner.train(was_training)
        return {"recall": float(right.float().mean())}


@torch.inference_mode()
def answered(learner: nn.Module, context: Context) -> Tensor:
    """(n,) bool whether the likeliest next token after each question is the answer's first."""
    return answered_after(learner, embed(learner, context), context.questions)


@torch.inference_mode()
def answered_after(learner: nn.Module, start: Tensor, question: Asked) -> Tensor:
    """(n,) bool as `answered`, after inputs (m, d) that stand for the context, compressed or
    not."""
    table = (
        learner.table()
        if isinstance(learner, Compressor)
        else learner.get_input_embeddings().weight  # type: ignore[operator]
    )
    values = torch.cat([start, table[torch.tensor(question.ids, device=start.device)]])[None]
    if isinstance(learner, Compressor):
        with learner.answering() as network:
            logits = network(inputs_embeds=values, use_cache=False).logits
    else:
        logits = learner(inputs_embeds=values, use_cache=False).logits
    places = torch.tensor(question.places, device=start.device)
    found: Tensor = (
        logits[0, len(start) + places - 1].argmax(dim=-1).cpu()
        == torch.tensor(question.ids)[torch.tensor(question.places)]
    )
    return found
