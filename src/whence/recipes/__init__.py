"""Recipes: values alone. A recipe is found by its name; what it cannot say is a missing part of `whence.training`."""

from __future__ import annotations

from whence.errors import UnknownName
from whence.recipes import compact, retrieval, tuples, warping
from whence.training.recipe import Recipe
from whence.training.options.tuples import TupleRecipe
from whence.training.options.warps import WarpRecipe

AnyRecipe = Recipe | WarpRecipe | TupleRecipe
RECIPES: dict[str, AnyRecipe] = {
    recipe.name: recipe for recipe in (*compact.RECIPES, *retrieval.RECIPES, *warping.RECIPES, *tuples.RECIPES)
}


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes, sorted."""
    return tuple(sorted(RECIPES))


def get_recipe(name: str) -> AnyRecipe:
    """The recipe of this name. Raises `UnknownName` with the nearest names."""
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]
