"""What photos share: the building fronts that a camera sees, and the homography between two views
through one of them."""

from __future__ import annotations

import numpy as np

from whence.errors import BadOption
from whence.worlds.camera import Camera, plane_homography
from whence.worlds.raster import PatchInfo, Raster, Texture
from whence.worlds.scene import FAR_M, Scene

_PLAIN = Texture(np.full((1, 1, 4), 128, np.uint8))


def visible_fronts(
    scene: Scene, camera: Camera, *, min_share: float = 0.02, width: int = 96
) -> dict[int, float]:
    """The lots whose fronts fill at least `min_share` of the view, with their share; without
    relief, trees and traffic."""
    camera = camera.scaled(width / camera.width)
    raster = Raster(camera)
    fronts, centre = scene.fronts, camera.centre
    gap = fronts.middle - centre[:2]
    faces = ((centre[:2] - fronts.origin[:, :2]) * fronts.outward[:, :2]).sum(axis=1) > 0.05
    near = np.flatnonzero(((gap**2).sum(axis=1) < FAR_M**2) & faces)
    inverse, corners = raster.project(fronts.origin[near], fronts.across[near], fronts.down[near])
    seen = np.flatnonzero(raster.visible(corners))
    for k in seen[np.argsort(corners[seen][..., 2].min(axis=1), kind="stable")]:
        outline = raster.outline(corners[k])
        if outline is not None:
            raster.draw(inverse[k], outline, _PLAIN, PatchInfo(0, (0.0, 0.0, 0.0), int(near[k])))
    counts = np.bincount(raster.ids.ravel(), minlength=len(raster.infos) + 1)[1:] / raster.ids.size
    return {
        info.lot: float(share)
        for info, share in zip(raster.infos, counts, strict=True)
        if share >= min_share
    }


def front_homography(scene: Scene, lot: int, *, first: Camera, second: Camera) -> np.ndarray:
    """The homography (3, 3) that maps pixels of the first view onto the second through a lot's
    front; its last entry is 1.

    Exact for points of the front's own plane, not for its relief. Raises `BadOption` where there is
    no such lot.
    """
    if not 0 <= lot < len(scene.plan.lots):
        raise BadOption(f"lot {lot}: the city has lots 0 to {len(scene.plan.lots) - 1}")
    plane = (scene.fronts.origin[lot], scene.fronts.across[lot], scene.fronts.down[lot])
    mapping = plane_homography(second, *plane) @ np.linalg.inv(plane_homography(first, *plane))
    return mapping / mapping[2, 2]
