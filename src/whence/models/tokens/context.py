"""Long texts for a language model as half as many vectors: each segment is compressed by itself, by
the same model with LoRA.

A compressor is LoRA on a causal language model of transformers (by peft) and one linear layer. The
model that answers is the one below, as it was: LoRA is off while it answers.

After Berton, Unnikrishnan, Tran, Shah: CompLLM, compression for long context Q&A, 2025, whose code
is not published. Rank and layers of LoRA, and how the linear layer begins, are ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption, MissingExtra, UnreadableWeights, WeightsMismatch
from whence.models.checkpoints.files import read_metadata, read_weights, weights_digest
from whence.models.tokens.segments import SegmentCache, num_kept
from whence.records import fill

COMPRESSOR = "compressor.safetensors"
"""The file in a model's folder that holds its compressor."""
COMPRESSION_FIELD = "whence_compression"
"""Where the header of that file keeps how it compresses, and of which model."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Compression:
    """How texts are compressed."""

    segment: int = 20
    """Tokens of a segment at most."""
    rate: int = 2
    """Tokens that become one vector."""
    rank: int = 16
    """Of LoRA; it is scaled by 2."""

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= self.segment or self.rank < 1:
            raise BadOption(
                f"segments of {self.segment} tokens at {self.rate} a vector with rank {self.rank} "
                "are not possible"
            )


class LanguageModel:
    """A causal language model of a folder, with its words."""

    def __init__(self, network: Any, words: Any, folder: Path) -> None:
        self.network, self.words, self.folder = network, words, folder

    @classmethod
    def of_folder(cls, folder: str | Path) -> LanguageModel:
        """The model of a local folder as transformers writes them (config.json, model.safetensors,
        tokenizer.json).

        Nothing is fetched, and no code of the folder is run. Raises `MissingExtra`, and
        `UnreadableWeights` for another folder.
        """
        auto = require_language()
        # Its bars would stand among our own.
        auto.utils.logging.disable_progress_bar()
        path = Path(folder)
        if not (path / "config.json").is_file():
            raise UnreadableWeights(path, "no folder of a language model: it has no config.json")
        try:
            safely: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            network = auto.AutoModelForCausalLM.from_pretrained(
                path, use_safetensors=True, **safely
            )
            words = auto.AutoTokenizer.from_pretrained(path, **safely)
        except Exception as error:
            # A broken folder can make the library fail with anything.
            said = str(error).strip()
            raise UnreadableWeights(
                path, said.splitlines()[0][:200] if said else type(error).__name__
            ) from None
        return cls(network.eval().requires_grad_(False), words, path)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without any that would begin or end it."""
        return list(self.words(text, add_special_tokens=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, without those that begin or end it."""
        return str(self.words.decode(list(ids), skip_special_tokens=True)).strip()


def require_language() -> Any:
    """The library transformers. Raises `MissingExtra`."""
    try:
        import peft  # noqa: F401
        import transformers
    except ModuleNotFoundError:
        raise MissingExtra("a language model", "language") from None
    return transformers


class Compressor(nn.Module):
    """A language model that answers, and beside it, with LoRA on, compresses. Only LoRA and the
    linear layer learn."""

    def __init__(self, network: Any, compression: Compression, *, end_id: int) -> None:
        """`end_id` stands at the places of a segment that its vectors are read from. Raises
        `MissingExtra`."""
        super().__init__()
        require_language()
        from peft import LoraConfig, get_peft_model

        self.compression, self.end_id = compression, end_id
        self.base_digest = weights_digest(network)
        network.requires_grad_(False)
        rank = compression.rank
        # Every linear layer but the one that says the next token.
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # It asks the model in a way that transformers gives up.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            self.network = get_peft_model(network, config)
        table = network.get_input_embeddings().weight
        width = table.shape[1]
        self.linear = nn.Linear(width, width, device=table.device)
        with torch.no_grad():
            ids = torch.arange(min(64, len(table)), device=table.device)[None]
            size = self._hidden(table[ids]).square().mean().sqrt()
            self.linear.weight.copy_(torch.eye(width) * (table.square().mean().sqrt() / size))
            self.linear.bias.zero_()

    @contextlib.contextmanager
    def answering(self) -> Iterator[Any]:
        """The model as it was, LoRA off."""
        with self.network.disable_adapter():
            yield self.network.base_model.model

    def table(self) -> Tensor:
        """(V, d) what stands for each id."""
        weight: Tensor = self.network.get_input_embeddings().weight
        return weight

    def _hidden(self, values: Tensor) -> Tensor:
        """(B, n, d) hidden states after the last norm of inputs (B, n, d), LoRA on."""
        found: Tensor = self.network.base_model.model.base_model(
            inputs_embeds=values, use_cache=False
        ).last_hidden_state
        return found

    def compress_batch(self, segments: Tensor) -> Tensor:
        """(B, k, d) vectors of segments (B, n) of one length, through which gradients flow."""
        num = num_kept(segments.shape[1], self.compression.rate)
        ends = segments.new_full((len(segments), num), self.end_id)
        values = self.table()[torch.cat([segments, ends], dim=1)]
        found: Tensor = self.linear(self._hidden(values)[:, -num:])
        return found

    @torch.inference_mode()
    def compress(
        self, segments: Sequence[tuple[int, ...]], *, cache: SegmentCache | None = None
    ) -> Tensor:
        """(sum of k, d) vectors of segments one after the other; those in the cache are not
        computed. Raises `UnwritableFile`."""
        digest = self.digest()
        found: dict[tuple[int, ...], np.ndarray] = (
            {} if cache is None else cache.find(digest, segments)
        )
        by_length = defaultdict(list)
        for one in dict.fromkeys(segments):
            if one not in found:
                by_length[len(one)].append(one)
        made: dict[tuple[int, ...], np.ndarray] = {}
        for same in by_length.values():
            for start in range(0, len(same), _BATCH):
                part = same[start : start + _BATCH]
                made |= dict(
                    zip(part, self.compress_batch(torch.tensor(part)).float().numpy(), strict=True)
                )
        if cache is not None and made:
            cache.keep(digest, made)
        found |= made
        if not segments:
            return self.table().new_zeros((0, self.table().shape[1]))
        return torch.from_numpy(np.concatenate([found[one] for one in segments]))

    def digest(self) -> str:
        """A digest of what vectors follow from beside the ids: both models' weights and how
        segments are compressed."""
        if not hasattr(self, "_digest"):
            hashed = hashlib.blake2b(digest_size=8)
            for name, value in self.learned().items():
                hashed.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
            rest = f"{asdict(self.compression)} {self.end_id} {self.linear.weight.dtype}"
            self._digest = f"{self.base_digest} {hashed.hexdigest()} {rest}"
        return self._digest

    def learned(self) -> dict[str, Tensor]:
        """LoRA's and the linear layer's weights by name."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if "lora_" in name or name.startswith("linear.")
        }

    def header(self) -> dict[str, Any]:
        """The header of a compressor's file."""
        return {
            "compression": asdict(self.compression),
            "base": self.base_digest,
            "end_id": self.end_id,
        }

    @classmethod
    def of_file(cls, path: str | Path, network: Any) -> Compressor:
        """The compressor of a file, for the model it was learned on. Raises `UnreadableWeights` and
        `WeightsMismatch`."""
        try:
            said = json.loads(read_metadata(path).get(COMPRESSION_FIELD, ""))
            compression = fill(Compression, said["compression"], what="field of a compression")
            base, end_id = str(said["base"]), int(said["end_id"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UnreadableWeights(
                path, "no compressor of texts: whence train compllm-small writes one"
            ) from None
        if base != weights_digest(network):
            raise UnreadableWeights(
                path, "it was learned on another language model than the one in this folder"
            )
        found = cls(network, compression, end_id=end_id)
        own, tensors = found.learned(), read_weights(path).tensors
        wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
        if wrong or own.keys() != tensors.keys():
            unknown, missing = (
                sorted(tensors.keys() - own.keys()),
                sorted(own.keys() - tensors.keys()),
            )
            raise WeightsMismatch(
                path, "this compressor", unknown=unknown, missing=missing, misshapen=wrong
            )
        found.load_state_dict({**found.state_dict(), **tensors})
        return found.eval().requires_grad_(False)


@torch.inference_mode()
def continue_text(network: Any, start: Tensor, *, num_new: int, end_id: int | None) -> list[int]:
    """The likeliest ids after inputs (n, d), one after the other, at most `num_new`, up to
    `end_id`."""
    mask = torch.ones((1, len(start)), dtype=torch.long)
    options: dict[str, Any] = {
        "do_sample": False,
        "max_new_tokens": num_new,
        "pad_token_id": end_id,
        "eos_token_id": end_id,
    }
    found = network.generate(inputs_embeds=start[None], attention_mask=mask, **options)[0].tolist()
    return [one for one in found if one != end_id]


def kept_bytes(network: Any, num: int) -> int:
    """Bytes of what a model keeps of so many tokens while it answers (keys and values), in
    float32."""
    config = network.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * int(config.num_hidden_layers) * int(heads) * int(head) * 4 * num


def break_even(width: int, rate: int) -> float:
    """Tokens from which on compressing and reading takes less than reading plainly, where nothing
    is cached, by the counts of multiplications of a model of this width whose feed-forward parts
    are four times as wide."""
    return 24 * width / (rate * (1 - 1 / rate**2))


def header_text(compressor: Compressor) -> Mapping[str, str]:
    """The header of a compressor's file."""
    return {"format": "pt", COMPRESSION_FIELD: json.dumps(compressor.header())}
