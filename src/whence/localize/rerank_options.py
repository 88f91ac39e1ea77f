"""How candidates are re-ranked: which scorer, how many candidates, how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whence.errors import BadOption
from whence.matching.chain import check_chain_options, options_of
from whence.registry import get_card
from whence.settings import NO_OPTIONS, NONE, OTHERWISE, is_chain, parse_stages


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """How, how many, how long."""

    scorer: str = "inliers"
    """A registered scorer, or a chain: "geowarp:100,inliers:10"."""
    num_candidates: int = 20
    """Candidates that are compared with the query; those after them keep their order."""
    max_seconds: float | None = None
    """Seconds per query after which no further candidate is compared; None for no limit."""
    scorer_options: Mapping[str, Any] = field(default_factory=dict)
    """The scorer's own settings; those of a chain begin with the scorer's name and a dot."""
    when_unsure: float | None = None
    """Candidates are compared one by one until one is right with this probability; None to compare
    all."""
    otherwise: str = OTHERWISE
    """Where matches speak for no candidate, what orders the first few: SCORER:N, or "none"."""

    def __post_init__(self) -> None:
        get_card(self.scorer, kind="scorer")
        if self.num_candidates < 1:
            raise BadOption(f"re-ranking compares at least 1 candidate, not {self.num_candidates}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise BadOption(f"re-ranking needs more than {self.max_seconds} seconds")
        if self.when_unsure is not None and not 0 < self.when_unsure < 1:
            raise BadOption(f"a probability lies between 0 and 1, not {self.when_unsure}")
        if self.otherwise not in (OTHERWISE, NONE):
            self.otherwise_options  # noqa: B018 (raises)

    @property
    def otherwise_options(self) -> RerankOptions | None:
        """The scorer that is asked where this one finds nothing; None for none. Raises `BadOption`
        and `UnknownName`."""
        if self.otherwise == NONE:
            return None
        name, _, num = self.otherwise.partition(":")
        if not (num.isascii() and num.isdecimal()):
            raise BadOption(
                f"what is asked otherwise is none, or SCORER:PHOTOS, for example {OTHERWISE}; not "
                f"{self.otherwise!r}"
            )
        return RerankOptions(name, int(num), otherwise=NONE)

    @property
    def stages(self) -> tuple[RerankOptions, ...]:
        """One record per stage of a chain; empty where there is a single scorer."""
        if not is_chain(self.scorer):
            return ()
        return tuple(
            RerankOptions(
                stage.scorer,
                stage.num_candidates,
                stage.max_seconds,
                options_of(stage, self.scorer_options),
            )
            for stage in parse_stages(self.scorer)
        )


def rerank_options(
    scorer: str,
    *,
    num_candidates: int = 20,
    max_seconds: float | None = None,
    scorer_options: Mapping[str, Any] = NO_OPTIONS,
    when_unsure: float | None = None,
    otherwise: str = OTHERWISE,
    matcher: str | None = None,
) -> RerankOptions:
    """The options that a person states; of a chain the first stage says how many candidates there
    are.

    `matcher` is that of the scorer inliers, alone or in the chain. Raises `BadOption` and
    `UnknownName`.
    """
    if matcher is not None:
        get_card(matcher, kind="matcher")
        names = [stage.scorer for stage in parse_stages(scorer)] if is_chain(scorer) else [scorer]
        if "inliers" not in names:
            raise BadOption(
                f"the matcher is that of inliers, alone or in a chain; {scorer} has none to choose"
            )
        scorer_options = {
            **scorer_options,
            ("inliers.matcher" if is_chain(scorer) else "matcher"): matcher,
        }
    if is_chain(scorer):
        if max_seconds is not None:
            raise BadOption("the seconds of a chain stand with its stages, as in inliers:10:0.5s")
        num_candidates = parse_stages(scorer)[0].num_candidates
        check_chain_options(parse_stages(scorer), scorer_options)
    return RerankOptions(
        scorer, num_candidates, max_seconds, scorer_options, when_unsure, otherwise
    )
