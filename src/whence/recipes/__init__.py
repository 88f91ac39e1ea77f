"""Recipes: values alone. A recipe is found by its name; what it cannot say is a missing part of
`whence.training`."""

from __future__ import annotations

from whence.cards import Entry
from whence.recipes import (
    classes,
    compact,
    contexts,
    frame_tokens,
    gsv_cities,
    joint,
    local_features,
    megaloc,
    meshes,
    orbit,
    retrieval,
    semantic,
    sequences,
    tuples,
    warping,
)
from whence.registry import KINDS, build
from whence.training.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for room in (
        compact,
        retrieval,
        warping,
        tuples,
        joint,
        classes,
        orbit,
        meshes,
        semantic,
        gsv_cities,
        megaloc,
        sequences,
        local_features,
        frame_tokens,
        contexts,
    )
    for recipe in room.RECIPES
}


def _own(name: str) -> Recipe:
    return RECIPES[name]


ENTRIES: dict[str, Entry] = {name: Entry(_own, options={"name": name}) for name in RECIPES}
"""What the registry takes over."""


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes, sorted."""
    return tuple(sorted(KINDS["recipe"]))


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `UnknownName` with the nearest names."""
    recipe: Recipe = build("recipe", name)
    return recipe
