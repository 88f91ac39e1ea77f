"""Batches from data sets that say themselves what belongs together: GSV-Cities, scenes of
MegaScenes and ScanNet.

`make_batches` is the door to all kinds of places. Nothing here needs torch. A batch follows from
the seed, the epoch and its number alone.
"""

from __future__ import annotations

import numpy as np

from whence.data.drives import list_cities, read_msls
from whence.data.layouts import PlacePhotos, read_gsv_cities
from whence.data.scenes import SceneRules, Scenes, read_scenes
from whence.errors import BadOption, NoPhotos
from whence.lists import group_rows
from whence.runtime import random_stream
from whence.training.branches.cliques import CliqueBatches, draw_clique
from whence.training.branches.places import Batch, Batches, PlaceBatches, make_places, photo_places
from whence.training.datasets import Dataset
from whence.training.options.places import BatchOptions, PlaceOptions

_CITY, _VIEWS, _SCENES, _CLIQUE = 101, 102, 103, 104
_NUM_TRIES = 8


def make_batches(
    data: Dataset, *, places: PlaceOptions, options: BatchOptions, seed: int
) -> Batches:
    """The batches that a branch of places learns from. Raises `NoPhotos`, `BadOption` and
    `UnreadableTable`."""
    if places.by == "listed":
        listed = read_gsv_cities(data.folder("listed places"), min_photos=places.min_photos)
        data.report(listed.photos.skipped)
        return ListedBatches(listed, options=options, seed=seed)
    if places.by == "scene":
        scenes = read_scenes(data.folder("scenes"), every=places.every)
        data.report(scenes.photos.skipped)
        return SceneBatches(scenes, rules=_rules(places), options=options, seed=seed)
    if places.by == "clique":
        root = data.folder("cliques")
        if not list_cities(root):
            raise NoPhotos(
                f"{str(root)!r} is not laid out as MSLS: train_val/CITY/query/raw.csv is missing"
            )
        found = read_msls(root, cities=list_cities(root))
        data.report((*found.database.photos.skipped, *found.queries.photos.skipped))
        return CliqueBatches(
            (found.database, found.queries), places=places, options=options, seed=seed
        )
    make = photo_places if places.by == "photo" else make_places
    return PlaceBatches(make(data.photos, options=places), options=options, seed=seed)


class ListedBatches(Batches):
    """Places as a data set lists them, city by city: in an epoch each comes once, and those that
    fill no whole batch are left out.

    The cities come in the order of their names, as published code has them in one order; the places
    of each in a random one.
    """

    def __init__(
        self,
        places: PlacePhotos,
        *,
        options: BatchOptions = BatchOptions(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Raises `BadOption` where there are too few places."""
        self.groups = group_rows(places.place)
        super().__init__(
            places.photos, num_places=len(self.groups.keys), options=options, seed=seed
        )
        if self.num_places < options.num_places:
            raise BadOption(
                f"{self.num_places} places do not give a batch of {options.num_places}; lower "
                "batches.num_places"
            )
        self._city = np.unique(self.groups.keys // 10**5, return_inverse=True)[1]

    def num_batches(self, epoch: int) -> int:
        return self.num_places // self.options.num_places

    def batch(self, epoch: int, number: int) -> Batch:
        order = random_stream(self.seed, _CITY, epoch).permutation(self.num_places)
        if not self.options.is_shuffled:
            order = order[np.argsort(self._city[order], kind="stable")]
        size, views = self.options.num_places, self.options.num_views
        places = order[number * size : (number + 1) * size]
        rows = [self._views(epoch, int(place)) for place in places]
        return Batch(np.concatenate(rows), np.repeat(places, views))

    def _views(self, epoch: int, place: int) -> np.ndarray:
        members, views = self.groups.rows.of(place), self.options.num_views
        return random_stream(self.seed, _VIEWS, epoch, place).choice(
            members, views, replace=len(members) < views
        )


class SceneBatches(Batches):
    """Places of a batch are of different scenes, which share nothing; any two views of a place show
    the same.

    In an epoch every scene with so many views comes once; those that fill no whole batch are left
    out.
    """

    def __init__(
        self,
        scenes: Scenes,
        *,
        rules: SceneRules = SceneRules(),  # noqa: B008
        options: BatchOptions = BatchOptions(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Looks at every scene once. Raises `NoPhotos`, and `BadOption` where too few scenes have
        views enough."""
        self.scenes, self.rules = scenes, rules
        found = {}
        for scene in range(len(scenes)):
            views = self._first_views(scene, options.num_views, seed)
            if views is not None:
                found[scene] = views
        if not found:
            raise NoPhotos(
                f"in none of {len(scenes)} scenes do {options.num_views} photos show the same, "
                "any two of them"
            )
        super().__init__(scenes.photos, num_places=len(found), options=options, seed=seed)
        if len(found) < options.num_places:
            raise BadOption(
                f"{len(found)} of {len(scenes)} scenes have {options.num_views} views of one "
                f"place, a batch takes {options.num_places}; lower batches.num_places"
            )
        self._first, self._usable = found, np.array(list(found), np.int64)

    def num_batches(self, epoch: int) -> int:
        return self.num_places // self.options.num_places

    def batch(self, epoch: int, number: int) -> Batch:
        order = random_stream(self.seed, _SCENES, epoch).permutation(self._usable)
        chosen = order[number * self.options.num_places :][: self.options.num_places]
        rows = [self._views(epoch, int(scene)) for scene in chosen]
        return Batch(
            np.concatenate(rows),
            np.repeat(np.searchsorted(self._usable, chosen), self.options.num_views),
        )

    def _views(self, epoch: int, scene: int) -> np.ndarray:
        """Another choice of views each epoch; the first that was found where a few tries find
        none."""
        together = self.scenes.together(scene, rules=self.rules)
        found = _draw_views(
            together, self.options.num_views, random_stream(self.seed, _CLIQUE, epoch + 1, scene)
        )
        return self.scenes.rows.of(scene)[self._first[scene] if found is None else found]

    def _first_views(self, scene: int, num_views: int, seed: int) -> np.ndarray | None:
        if self.scenes.rows.counts[scene] < num_views:
            return None
        together = self.scenes.together(scene, rules=self.rules)
        return _draw_views(
            together, num_views, random_stream(seed, _CLIQUE, 0, scene), num_tries=len(together)
        )


def _draw_views(
    together: np.ndarray,
    num_views: int,
    random: np.random.Generator,
    *,
    num_tries: int = _NUM_TRIES,
) -> np.ndarray | None:
    """(num_views,) numbers of photos of which any two show the same, or nothing."""
    starts = random.permutation(np.flatnonzero(together.sum(axis=1) >= num_views - 1))
    for start in starts[:num_tries].tolist():
        found = draw_clique(together, start, random, most=num_views)
        if len(found) == num_views:
            return found
    return None


def _rules(places: PlaceOptions) -> SceneRules:
    return SceneRules(places.shared_share, places.radius_m, places.max_turn_deg)
