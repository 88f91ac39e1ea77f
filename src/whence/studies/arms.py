"""Arms that grids of places as classes list and runs train: how each changes its study's recipe,
and what is told apart."""

from __future__ import annotations

from collections.abc import Mapping

from whence.errors import BadOption

NUM_SEEDS = 3
"""Trainings of the main contrast; other arms have one."""
COSPLACE: Mapping[str, tuple[str, ...]] = {
    "cosplace": (),
    "triplets, random negatives": ("mining.name=random",),
    "triplets, hard negatives": ("mining.name=partial",),
    "all cells in one softmax": ("cells.num_apart=1", "cells.num_turned=1"),
    "one group alone": ("num_groups=1",),
    "dimension 128": ("learner.aggregator.options.dim=128",),
    "dimension 32": ("learner.aggregator.options.dim=32",),
}
"""Arms of CosPlace's study, and how they change its recipe."""
EIGENPLACES: Mapping[str, tuple[str, ...]] = {
    "eigenplaces": (),
    "cosplace": (),
    "lateral alone": ("branches.1.weight=0", "branches.0.batch_size=32"),
    "frontal alone": ("branches.0.weight=0", "branches.1.batch_size=32"),
    "focal point at 0 m": ("focal_m=0",),
    "focal point at 20 m": ("focal_m=20",),
    "focal point at 50 m": ("focal_m=50",),
}
DIVIDE: Mapping[str, tuple[str, ...]] = {
    "N = 2": (),
    "margin, one group": ("cells.num_apart=1",),
    "N = 3": ("cells.num_apart=3",),
    "cross-entropy, one group": ("cells.num_apart=1", "loss.name=cross_entropy", "loss.options={}"),
    "cross-entropy, three maps": (
        "cells.num_apart=1",
        "loss.name=cross_entropy",
        "loss.options={}",
        "batch_size=11",
    ),
}
MAIN = {
    "cosplace": ("cosplace", "triplets, random negatives", "triplets, hard negatives"),
    "eigenplaces": ("eigenplaces", "cosplace"),
    "divide-and-classify": ("N = 2", "margin, one group", "cross-entropy, one group"),
}
"""Arms of the main contrasts, their reference first."""
TRIPLETS = (
    "mining.num_queries=400",
    "mining.num_candidates=400",
    "mining.num_negatives=6",
    "batch_queries=4",
)
"""As many photos a step as a batch of classes has: four queries with a positive and six negatives
each."""
SHIFTS_M = ((0, 2), (2, 5), (5, 99))
"""How far a query stands aside of where the database was taken."""
TURNS_DEG = ((0, 30), (30, 60), (60, 90))
"""How far a query looks away from its street's direction: along it, or across."""


def bin_name(what: str, low: float, high: float, unit: str) -> str:
    """The name of a share of the queries."""
    return f"recall@1, {what} {low:g}-{high:g} {unit}"


ALL_SOURCES = "all sources"
ONE_LOSS = "all sources, one loss"
SOURCES = ("sf_xl", "gsv_cities", "msls", "megascenes", "scannet")
"""Of MegaLoc, by the names of their data sets."""
TESTS = ("street", "landmarks", "indoor")
BUDGETS = ("same images", "same steps")
"""A network of one source sees as many images as that of all sources, or as many of its source."""


def loss_to_all(test: str) -> str:
    """The name of the difference of an arm to the network of all sources."""
    return f"less all sources, {test}"


EARTHLOC: Mapping[str, tuple[str, ...]] = {
    "earthloc": (),
    "each image changed for itself": ("augment.per=image",),
    "overlaps count as wrong": ("is_neutral_aware=false",),
    "random groups": ("grouping=random",),
    "not trained": ("loop.num_steps=1",),
}
"""Of EarthLoc, its parts left out one at a time."""
EARTHLOC_MAIN = (
    "earthloc",
    "each image changed for itself",
    "overlaps count as wrong",
    "random groups",
)
ASTROLOC: Mapping[str, tuple[str, ...]] = {
    "both": (),
    "pairs alone": ("branches.1.weight=0",),
    "mining alone": ("branches.0.weight=0",),
    "mining alone, each group alike": ("branches.0.weight=0", "grouping=looks"),
    "mining alone, random groups": ("branches.0.weight=0", "grouping=random"),
}
"""Of AstroLoc, as described: photos with tiles against tiles alone, and how groups of tiles are
drawn."""
ASTROLOC_MAIN = ("both", "pairs alone", "mining alone")
ROUNDS = (1, 2, 3, 4)
"""Rounds after which it is told where right candidates stood; of those that went on. Of
EarthMatch's study."""
OVERLAPS = (0.0, 0.2, 0.4, 0.6, 1.0)
"""Edges of the overlap of photo and candidate at first."""
PHOTOS, MESH = "photos", "mesh"
"""Databases of MeshVPR's study."""
PLAIN_MODEL, COPY, COPY_TWICE = "as it is", "aligned copy", "aligned copy on both sides"
"""How they are described."""
SEMANTIC: Mapping[str, tuple[str, ...]] = {
    "neither": ("aggregator.options.has_attention=false", "segmentation_weight=0"),
    "attention": ("segmentation_weight=0",),
    "segmentation": ("aggregator.options.has_attention=false",),
    "both": (),
    "both, unguided": ("is_guided=false",),
}
"""Of SegVPR, its parts alone and together; unguided, classes are learned of maps that the attention
does not weigh."""
MODES = ("paper", "post_norm", "released")
"""Where the pool brings vectors to unit length, see `whence.models.aggregators.attention`."""
WATCHED = ("building", "road", "sidewalk", "vegetation", "sky", "vehicle", "person")
"""Classes whose attention is told."""


def other_renders(options: Mapping[str, object]) -> dict[str, str]:
    """Folders of further renders of the test city's views by name. Raises `BadOption`."""
    found = {}
    for part in filter(None, str(options["renders"]).split(",")):
        name, mark, folder = part.partition("=")
        if not (name and mark and folder):
            raise BadOption(
                f"renders={options['renders']}: write names and folders, as low=FOLDER,high=FOLDER"
            )
        found[name] = folder
    return found
