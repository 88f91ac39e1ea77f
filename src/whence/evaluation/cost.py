"""What an evaluation takes: parameters, operations, bytes of descriptors, time to describe and to
search, memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from whence.data.formats import EvaluationSet
from whence.models.descriptor import DescriptorModel

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class EvaluationCost:
    """The figures; None where a figure does not apply or was not measured."""

    dim: int
    descriptor_bytes: int
    """Of one photo, in float32."""
    index_bytes: int
    """Of the whole database."""
    num_parameters: int | None
    """Of the network, and below the operations of one forward on a photo of 480 x 640 pixels as its
    card prepares it."""
    flops: int | None
    describe_ms: float | None
    """Wall-clock milliseconds per photo, reading it included; None where a work folder may have
    held descriptors."""
    search_ms: float
    """Per query."""
    peak_bytes: int
    """Most memory that the process had in use while evaluating."""


def measured_cost(
    model: DescriptorModel,
    data: EvaluationSet,
    *,
    seconds: Mapping[str, float],
    peak_bytes: int,
    is_kept: bool,
) -> EvaluationCost:
    """The cost of an evaluation that took these seconds by stage; `is_kept` says that a work folder
    was used."""
    described = [stage for stage in seconds if stage.startswith("describe ")]
    num_photos = len(data.database) + (len(data.queries) if len(described) > 1 else 0)
    num_parameters = flops = None
    if model.card.backbone:
        from whence.models.cost import cost_of

        of_network = cost_of(model.card)
        if of_network is not None:
            num_parameters, flops = of_network.num_parameters, of_network.flops
    return EvaluationCost(
        dim=model.dim,
        descriptor_bytes=4 * model.dim,
        index_bytes=4 * model.dim * len(data.database),
        num_parameters=num_parameters,
        flops=flops,
        describe_ms=None
        if is_kept
        else 1e3 * sum(seconds[stage] for stage in described) / max(num_photos, 1),
        search_ms=1e3 * seconds["search"] / max(len(data.queries), 1),
        peak_bytes=peak_bytes,
    )


def cost_rows(cost: EvaluationCost) -> tuple[tuple[str, str], ...]:
    """The figures that are known, as pairs of a name and a text."""
    rows = [("dimensions", f"{cost.dim}"), ("bytes per photo", f"{cost.descriptor_bytes:,}")]
    if cost.num_parameters is not None and cost.flops is not None:
        rows += [
            ("parameters", f"{cost.num_parameters / 1e6:.2f} M"),
            ("GFLOPs per photo", f"{cost.flops / 1e9:.2f}"),
        ]
    if cost.describe_ms is not None:
        rows.append(("describing", f"{cost.describe_ms:.1f} ms per photo"))
    rows += [
        ("searching", f"{cost.search_ms:.2f} ms per query"),
        ("peak memory", f"{cost.peak_bytes / 1e6:,.0f} MB"),
    ]
    return tuple(rows)


class PeakMemory:
    """The most memory the process has in use from now on; where the system cannot start anew, since
    the process began."""

    def __init__(self) -> None:
        try:
            with open(_RESET, "w", encoding="ascii") as file:
                file.write("5")
        except OSError:
            pass

    def peak_bytes(self) -> int:
        """Bytes resident at most so far."""
        try:
            lines = _STATUS.read_text(encoding="ascii").splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        import resource  # not on Windows

        # macOS counts bytes, other systems kilobytes.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
