"""TimeSformer: a vision transformer that sees the frames of a sequence from its first layer on, in
time and space by turns."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.layers import DropPath, Mlp
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Backbone, Features, SizeRule, num_blocks_kept
from whence.models.backbones.transformers import PatchProjection, VitShape

SHAPES = {
    "timesformer": VitShape(768, 12, 12, patch_px=16, image_px=224, is_dinov2=False),
    "timesformer_mini": VitShape(192, 4, 3, patch_px=16, image_px=224, is_dinov2=False),
}
"""By name: that of ViT-B/16, as published, and one for two cores that is released nowhere."""
_DROP_PATH = 0.1


class DividedBlock(nn.Module):
    """Attention over time at each patch, over space in each frame, then the feed-forward part; each
    adds to what was before.

    The class token takes part in space alone: it is repeated for each frame, and what the frames
    say of it is averaged.
    """

    def __init__(self, width: int, num_heads: int, *, eps: float, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.temporal_norm1, self.norm2 = (
            nn.LayerNorm(width, eps=eps) for _ in range(3)
        )
        self.attn = Attention(width, num_heads, qkv_bias=True)
        self.temporal_attn = Attention(width, num_heads, qkv_bias=True)
        self.temporal_fc = nn.Linear(width, width)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path)
        # Time begins as nothing, with the attention of space.
        nn.init.zeros_(self.temporal_fc.weight)
        nn.init.zeros_(self.temporal_fc.bias)
        self.temporal_attn.load_state_dict(self.attn.state_dict())

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The class token (B, 1, C) and the patches (B, S, n, C) after the block."""
        batch, length, num, width = patches.shape
        over_time = patches.transpose(1, 2).reshape(batch * num, length, width)
        moved = self.temporal_fc(self.drop_path(self.temporal_attn(self.temporal_norm1(over_time))))
        patches = patches + moved.reshape(batch, num, length, width).transpose(1, 2)
        in_frames = torch.cat([cls[:, None].expand(-1, length, -1, -1), patches], dim=2).flatten(
            0, 1
        )
        seen = self.drop_path(self.attn(self.norm1(in_frames))).reshape(
            batch, length, 1 + num, width
        )
        cls, patches = cls + seen[:, :, :1].mean(dim=1), patches + seen[:, :, 1:]
        tokens = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return tokens[:, :1], tokens[:, 1:].reshape(patches.shape)


class TimeSformer(Backbone):
    """TimeSformer with divided attention (Bertasius et al., ICML 2021) on ViT-B/16 at 224 x 224:
    the class token of a sequence.

    Any number of frames: the positions in time are those of the nearest of the `num_frames` it was
    made for. `shape` is for tests; without one the name says it.
    """

    sees_sequences = True

    def __init__(
        self,
        name: str = "timesformer",
        *,
        num_frames: int = 5,
        num_blocks: int | None = None,
        shape: VitShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or SHAPES[name]
        depth = num_blocks_kept(num_blocks, shape.depth)
        if num_frames < 1:
            raise BadOption(f"num_frames must be at least 1, not {num_frames}")
        self.name, self.channels, self.stride = name, shape.width, shape.patch_px
        self.size_rule = SizeRule(exact=(shape.image_px, shape.image_px))
        self.grid_side = shape.image_px // shape.patch_px
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, shape.width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid_side**2, shape.width))
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, shape.width))
        self.patch_embed = PatchProjection(shape.width, shape.patch_px)
        rates = [_DROP_PATH * i / max(1, shape.depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            DividedBlock(shape.width, shape.num_heads, eps=shape.eps, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(shape.width, eps=shape.eps)
        self.stages = ("stem", *(f"blocks.{i}" for i in range(depth)), "norm")

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage; "stem" holds the patch projection, the class token and the
        positions."""
        if stage != "stem":
            return super().stage_parameters(stage)
        return (
            p for name, p in self.named_parameters() if not name.startswith(("blocks.", "norm."))
        )

    def forward(self, images: Tensor) -> Features:
        return self.of_sequences(images[:, None])

    def of_sequences(self, frames: Tensor) -> Features:
        """`Features` of sequences (B, S, 3, H, W): the maps of their frames below one another, and
        one class token."""
        batch, length = frames.shape[:2]
        self.size_rule.check(*frames.shape[-2:])
        patches = (
            self.patch_embed(frames.flatten(0, 1)).flatten(2).transpose(1, 2)
            + self.pos_embed[:, 1:]
        )
        patches = patches.unflatten(0, (batch, length)) + self._times(length)[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        for block in self.blocks:
            cls, patches = block(cls, patches)
        cls, patches = self.norm(cls), self.norm(patches)
        side = self.grid_side
        return Features(
            patches.permute(0, 3, 1, 2).reshape(batch, self.channels, length * side, side),
            cls[:, 0],
        )

    def _times(self, length: int) -> Tensor:
        """(1, S, C) positions in time."""
        if length == self.time_embed.shape[1]:
            return self.time_embed
        resized = nn.functional.interpolate(
            self.time_embed.transpose(1, 2), size=length, mode="nearest"
        )
        return resized.transpose(1, 2)
