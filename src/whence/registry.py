"""Names of the parts: tables from name to factory and card, and what others add to them. Importing
it imports nothing else.

A kind of part names the tables that the rooms above keep, as dotted text, read when a name is first
looked for; what is not there is looked for among the plug-ins.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from whence.cards import Entry, ModelCard
from whence.errors import BadOption, MissingExtra, UnknownName
from whence.plugins import Table
from whence.settings import NO_OPTIONS

EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "timm", "safetensors"), "torch"),
    **dict.fromkeys(("kornia", "transformers"), "matchers"),
    "peft": "language",
}
"""Which extra installs a package."""


KINDS: dict[str, Table] = {
    "model": Table(
        "whence.models.cards.vlad:ENTRIES",
        "whence.models.cards.lite:ENTRIES",
        "whence.models.zoo:ENTRIES",
        resolver="whence.models.zoo:entry_of_file",
    ),
    "scorer": Table(
        "whence.matching.cards:SCORERS", resolver="whence.matching.chain:entry_of_chain"
    ),
    "matcher": Table("whence.matching.cards:MATCHERS"),
    "index": Table(
        "whence.index.engines:ENTRIES", resolver="whence.index.engines:entry_of_factory"
    ),
    "layout": Table("whence.data.evaluation_sets:ENTRIES"),
    "backbone": Table("whence.models.backbones:ENTRIES"),
    "aggregator": Table("whence.models.aggregators:ENTRIES"),
    "loss": Table("whence.training.losses.by_label:ENTRIES"),
    "learner": Table("whence.training.parts:LEARNERS"),
    "branch": Table("whence.training.parts:BRANCHES"),
    "probe": Table("whence.training.parts:PROBES"),
    "recipe": Table("whence.recipes:ENTRIES"),
}
MODELS, SCORERS, MATCHERS, INDEXES = (
    KINDS[kind] for kind in ("model", "scorer", "matcher", "index")
)


def register(
    kind: str,
    name: str,
    factory: str | Callable[..., Any],
    *,
    card: ModelCard | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
    settings: str | type | None = None,
) -> None:
    """Add a part of one's own under a name, as good as those that come along; `docs/adding.md`
    shows one of each kind.

    `factory` is what makes it, itself or as "module:callable", imported when it is first asked for.
    A "model", "scorer" and "matcher" needs a card, a "learner", "branch" and "probe" the record of
    its `settings`, which a recipe then holds. Raises `UnknownName` for a kind that does not exist,
    and `BadOption` for a name that is taken.
    """
    table = _table(kind)
    if name in table.own():
        raise BadOption(f"there is a {kind} {name!r} already; choose another name")
    if card is None and kind in ("model", "scorer", "matcher"):
        raise BadOption(f"a {kind} needs a card: register(..., card=ModelCard({name!r}, ...))")
    if settings is None and kind in ("learner", "branch", "probe"):
        raise BadOption(
            f"a {kind} needs the record of its settings: register(..., settings=OPTIONS)"
        )
    table[name] = Entry(factory, card, options, settings)


def list_models(pattern: str = "*") -> tuple[str, ...]:
    """Names of the models that match a shell pattern, sorted."""
    return tuple(sorted(name for name in MODELS if fnmatch.fnmatchcase(name, pattern)))


def get_card(name: str, *, kind: str = "model") -> ModelCard:
    """The card of a model, a scorer or a matcher. Raises `UnknownName` with the nearest names."""
    card = get_entry(kind, name).card
    assert card is not None, "every model, scorer and matcher in the tables has a card"
    return card


def get_entry(kind: str, name: str) -> Entry:
    """The table entry of a part. Raises `UnknownName` with the nearest names.

    A model may be named by a safetensors file that carries a card; raises `UnreadableWeights` where
    it does not. A scorer may be a chain, "geowarp:100,inliers:10"; raises `BadOption` where that is
    none.
    """
    found = _table(kind).find(name)
    if found is None:
        raise UnknownName(kind, name, _table(kind))
    return found


def build(
    kind: str,
    name: str,
    *,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Any:
    """The part, made: its factory is imported now and called with the entry's options and these.

    Raises `UnknownName`, `MissingExtra` where it needs torch, and `BadOption` for options the part
    does not have.
    """
    entry = get_entry(kind, name)
    chosen = {**entry.options, **options}
    try:
        factory = _factory(kind, name, entry)
        known = inspect.signature(factory).parameters
        for option in chosen:
            if option not in known:
                raise BadOption(
                    f"{kind} {name} has no option {option!r}; it has {', '.join(known) or 'none'}"
                )
        return factory(**chosen)
    except ImportError as error:
        if error.name not in EXTRA_OF:
            raise
        # The extra of matchers brings torch along.
        raise MissingExtra(
            name, "matchers" if kind == "matcher" else EXTRA_OF[error.name]
        ) from None


def _factory(kind: str, name: str, entry: Entry) -> Callable[..., Any]:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        if isinstance(error, ImportError) and error.name in EXTRA_OF:
            raise
        raise BadOption(
            f"{kind} {name} cannot be made: {entry.factory} cannot be imported ({error})"
        ) from error


def _table(kind: str) -> Table:
    if kind not in KINDS:
        raise UnknownName("kind of part", kind, KINDS)
    return KINDS[kind]
