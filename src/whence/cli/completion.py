"""What a shell offers for a half-written name: models, scorers, matchers, published sets, studies
and recipes."""

from __future__ import annotations

from collections.abc import Iterable


def models(incomplete: str) -> list[str]:
    """Models that begin so."""
    from whence.registry import MODELS

    return _beginning(incomplete, MODELS)


def scorers(incomplete: str) -> list[str]:
    """Pair scorers that begin so; of a chain, "rapid:100,in", the last one is completed."""
    from whence.registry import SCORERS

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, SCORERS)]


def second_looks(incomplete: str) -> list[str]:
    """Ways to ask about unknown photos: auto, none, or a scorer."""
    return _beginning(incomplete, ("auto", "none", *scorers("")))


def matchers(incomplete: str) -> list[str]:
    """Matchers that begin so."""
    from whence.registry import MATCHERS

    return _beginning(incomplete, MATCHERS)


def published_sets(incomplete: str) -> list[str]:
    """Published sets that begin so."""
    from whence.evaluation.published import PUBLISHED

    return _beginning(incomplete, PUBLISHED)


def layouts(incomplete: str) -> list[str]:
    """Layouts that begin so."""
    from whence.registry import KINDS

    return _beginning(incomplete, KINDS["layout"])


def studies(incomplete: str) -> list[str]:
    """Studies that begin so."""
    from whence.studies import list_studies

    return _beginning(incomplete, list_studies())


def recipes(incomplete: str) -> list[str]:
    """Recipes that begin so."""
    from whence.recipes import list_recipes

    return _beginning(incomplete, list_recipes())


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
