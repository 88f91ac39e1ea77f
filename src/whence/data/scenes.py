"""Data sets of scenes: photos of one scene may show the same, those of different ones never do.
MegaScenes and ScanNet.

What two photos of a scene have in common follows from its reconstruction, or from the poses of the
camera.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whence.data.colmap import has_model, read_model, shared_shares
from whence.data.formats import EvaluationSet
from whence.data.layouts import DEFAULT_OPTIONS, existing_photos, require_photos
from whence.data.photos import Photos
from whence.data.scan import ReadOptions
from whence.data.tables import read_text
from whence.errors import NoPhotos, UnreadableTable
from whence.lists import NeighborLists, group_rows


@dataclass(frozen=True)
class SceneRules:
    """When two photos of a scene show the same."""

    shared_share: float = 0.01
    """Of the points of each, seen by both: for scenes that were reconstructed."""
    radius_m: float = 10.0
    """Apart at most, and ..."""
    max_turn_deg: float = 30.0
    """... turned at most: for scenes whose camera was tracked."""


@dataclass(frozen=True)
class Scenes(ABC):
    """Photos of scenes."""

    photos: Photos
    rows: NeighborLists
    """Rows of the photos of each scene."""
    names: tuple[str, ...]
    """Of the scenes."""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def together(self, scene: int, *, rules: SceneRules) -> np.ndarray:
        """(n, n) bool: which photos of a scene, in the order of `rows`, show the same as which;
        false for a photo and itself."""


@dataclass(frozen=True)
class Reconstructions(Scenes):
    """Scenes with a model of 3-D points each, which is read when it is asked for."""

    models: tuple[tuple[Path, np.ndarray], ...]
    """The folder of each scene's model, and (n,) which of its photos those of `rows` are."""

    def together(self, scene: int, *, rules: SceneRules) -> np.ndarray:
        folder, which = self.models[scene]
        images = read_model(folder)
        shares = shared_shares([images[number] for number in which])
        return _without_itself((shares >= rules.shared_share) & (shares > 0))


@dataclass(frozen=True)
class Scans(Scenes):
    """Rooms that a tracked camera went through. All scans of one room are one scene, though their
    poses do not go together."""

    poses: np.ndarray
    """(N, 4, 4) from camera to room, metres."""
    scan: np.ndarray
    """(N,) int64 number of the scan of each photo."""

    def together(self, scene: int, *, rules: SceneRules) -> np.ndarray:
        rows = self.rows.of(scene)
        poses, scan = self.poses[rows], self.scan[rows]
        apart = np.linalg.norm(poses[:, None, :3, 3] - poses[None, :, :3, 3], axis=2)
        # The trace of one rotation times the other's inverse is 1 + 2 cos of the angle between
        # them.
        cosine = (np.einsum("aij,bij->ab", poses[:, :3, :3], poses[:, :3, :3]) - 1) / 2
        is_near = (apart <= rules.radius_m) & (
            cosine >= np.cos(np.radians(rules.max_turn_deg)) - 1e-12
        )
        return _without_itself(is_near & (scan[:, None] == scan))


def read_megascenes(root: str | Path, *, options: ReadOptions = DEFAULT_OPTIONS) -> Reconstructions:
    """MegaScenes: models in reconstruct/ABC/DEF/colmap/N (in its bucket; its description says
    sparses/N), their photos in images/ABC/DEF/commons/SUBCATEGORY/0/pictures; one scene a model.

    Photos that are not there are left out, and scenes without any. Raises `NoPhotos` and
    `UnreadableTable`.
    """
    root = Path(root)
    base = root / "reconstruct"
    folders = (
        sorted(path.parent for path in base.rglob("images.*") if has_model(path.parent))
        if base.is_dir()
        else []
    )
    folders = list(dict.fromkeys(folders))
    files: list[Path] = []
    origin: list[tuple[int, int]] = []
    for number, folder in enumerate(folders):
        pictures = root / "images" / folder.parent.parent.relative_to(base)
        for place, image in enumerate(read_model(folder)):
            files.append(pictures / image.name)
            origin.append((number, place))
    photos, kept = existing_photos(files, root, options)
    found = np.array(origin, np.int64).reshape(-1, 2)[kept]
    groups = group_rows(found[:, 0])
    return Reconstructions(
        require_photos(photos, base),
        groups.rows,
        tuple(folders[number].relative_to(base).as_posix() for number in groups.keys.tolist()),
        tuple(
            (folders[number], found[groups.rows.of(k), 1])
            for k, number in enumerate(groups.keys.tolist())
        ),
    )


def read_scannet(
    root: str | Path, *, every: int = 1, options: ReadOptions = DEFAULT_OPTIONS
) -> Scans:
    """ScanNet: scans/sceneRRRR_SS/{color/N.jpg, pose/N.txt}, one scene a room RRRR; each `every`-th
    frame of a scan.

    Frames whose pose was lost (not finite) are left out. Raises `NoPhotos` and `UnreadableTable`.
    """
    root = Path(root)
    base = root / "scans" if (root / "scans").is_dir() else root
    files: list[Path] = []
    poses: list[np.ndarray] = []
    scans: list[str] = []
    for folder in sorted(path for path in base.glob("scene*_*") if (path / "pose").is_dir()):
        frames = sorted(
            int(path.stem) for path in (folder / "pose").glob("*.txt") if path.stem.isdigit()
        )
        for frame in frames[::every]:
            pose = _read_pose(folder / "pose" / f"{frame}.txt")
            if np.isfinite(pose).all():
                files.append(folder / "color" / f"{frame}.jpg")
                poses.append(pose)
                scans.append(folder.name)
    if not files:
        raise NoPhotos(
            f"no frames with a pose in {str(base)!r}: scans of ScanNet lie as "
            "scene0000_00/color/0.jpg and pose/0.txt"
        )
    photos, kept = existing_photos(files, root, options)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(scans))}
    rooms = {
        name: number
        for number, name in enumerate(dict.fromkeys(name.rpartition("_")[0] for name in scans))
    }
    groups = group_rows(np.array([rooms[scans[k].rpartition("_")[0]] for k in kept], np.int64))
    names = list(rooms)
    return Scans(
        require_photos(photos, base),
        groups.rows,
        tuple(names[number] for number in groups.keys.tolist()),
        np.array(poses)[kept],
        np.array([numbers[scans[k]] for k in kept], np.int64),
    )


def rooms_as_set(scans: Scans, *, rules: SceneRules = SceneRules()) -> EvaluationSet:
    """The first scan of every room as database, the others as queries; right is what a room's poses
    say shows the same.

    For sets whose scans of a room share one frame, as rendered ones do. Raises `NoPhotos` where no
    room was scanned twice.
    """
    first = {int(scans.scan[scans.rows.of(room)].min()) for room in range(len(scans))}
    is_database = np.isin(scans.scan, list(first))
    database, queries = np.flatnonzero(is_database), np.flatnonzero(~is_database)
    if not len(queries):
        raise NoPhotos("no room was scanned twice: there is nothing to ask with")
    one = replace(scans, scan=np.zeros(len(scans.scan), np.int64))
    found: list[np.ndarray] = [np.empty(0, np.int64)] * len(queries)
    place = {int(row): number for number, row in enumerate(queries)}
    for room in range(len(scans)):
        rows, together = scans.rows.of(room), one.together(room, rules=rules)
        for k in np.flatnonzero(~is_database[rows]).tolist():
            near = rows[together[k] & is_database[rows]]
            found[place[int(rows[k])]] = np.searchsorted(database, near)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in found])]).astype(np.int64)
    positives = NeighborLists(offsets, np.concatenate([*found, np.empty(0, np.int64)]))
    return EvaluationSet(
        "rooms", scans.photos.select(database), scans.photos.select(queries), positives=positives
    )


def read_scenes(
    root: str | Path, *, every: int = 1, options: ReadOptions = DEFAULT_OPTIONS
) -> Scenes:
    """The scenes of a folder laid out as MegaScenes or as ScanNet. Raises `NoPhotos` where it is
    neither."""
    root = Path(root)
    if (root / "reconstruct").is_dir():
        return read_megascenes(root, options=options)
    if (root / "scans").is_dir() or next(root.glob("scene*_*"), None) is not None:
        return read_scannet(root, every=every, options=options)
    raise NoPhotos(
        f"{str(root)!r} is laid out neither as MegaScenes (reconstruct/, images/) nor as ScanNet "
        "(scans/scene0000_00/)"
    )


def _without_itself(pairs: np.ndarray) -> np.ndarray:
    np.fill_diagonal(pairs, val=False)
    return pairs


def _read_pose(path: Path) -> np.ndarray:
    """(4, 4) from a text of four lines; "-inf" where tracking was lost."""
    try:
        values: Sequence[float] = [float(word) for word in read_text(path).split()]
    except ValueError as error:
        raise UnreadableTable(path, str(error)) from None
    if len(values) != 16:
        raise UnreadableTable(path, f"a pose has 16 numbers, not {len(values)}")
    return np.array(values).reshape(4, 4)
