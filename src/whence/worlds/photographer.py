"""Takes the photos of one city: from a shot to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from whence.data.panoramas import cut_crop, left_column
from whence.runtime import random_stream
from whence.worlds.camera import Camera
from whence.worlds.capture import CaptureOptions, Shot, shot_camera
from whence.worlds.conditions import Run, RunLight, make_run
from whence.worlds.movers import in_the_way, street_life
from whence.worlds.panoramas import join_panorama, panorama_view
from whence.worlds.plan import CityPlan
from whence.worlds.raster import Raster
from whence.worlds.scene import Scene
from whence.worlds.shading import Exposure, brightness, expose

MESH_RUN = 9001
MESH_PX_PER_M = 5.0
_PHOTO = 54


class Photographer:
    """Takes the photos of one city. Keeps textures, skies and shadows between photos; not shared
    between threads."""

    def __init__(
        self,
        plan: CityPlan,
        runs: Mapping[int, Run],
        *,
        options: CaptureOptions,
        px_per_m: float,
        cache_bytes: int,
    ) -> None:
        self.plan, self.runs, self.options = plan, runs, options
        self.scene = Scene(plan, px_per_m=px_per_m, cache_bytes=cache_bytes)
        self._lights: dict[int, RunLight] = {}
        self._last: tuple[int, np.ndarray, Raster, int] | None = None

    @cached_property
    def coarse(self) -> Scene:
        """The same city as a coarse mesh: low texture resolution, no relief, signs, furniture or
        traffic."""
        return Scene(self.plan, px_per_m=MESH_PX_PER_M, cache_bytes=50_000_000, is_coarse=True)

    @cached_property
    def _mesh_run(self) -> Run:
        return make_run(
            self.plan.seed, MESH_RUN, condition="overcast", year=2013, change=0, scaffold_share=0.0
        )

    def light(self, run: Run) -> RunLight:
        """Sky and shadows of a run."""
        if run.number not in self._lights:
            self._lights[run.number] = RunLight(run, self.scene)
        return self._lights[run.number]

    def take(self, shot: Shot) -> tuple[np.ndarray, Raster, int]:
        """The photo (H, W, 3) uint8 RGB of a shot, the raster it was developed from, and its JPEG
        quality.

        Of a panorama the raster is that of its first view.
        """
        camera = shot_camera(shot, seed=self.plan.seed, options=self.options)
        random = random_stream(self.plan.seed, _PHOTO, shot.number)
        if shot.is_mesh:
            raster = Raster(camera)
            self.coarse.draw(raster, self._mesh_run.epoch, [])
            look = Exposure(blur_px=0.9, noise=0.0, vignette=0.0, jpeg_quality=85)
            return (
                expose(raster, self._mesh_run, self.light(self._mesh_run), look, random),
                raster,
                look.jpeg_quality,
            )
        if shot.is_cut or shot.is_panorama:
            panorama, raster, quality = self._panorama_of(shot)
            if shot.is_panorama:
                return panorama, raster, quality
            turn = shot.grid_heading_deg - shot.panorama_deg
            return (
                cut_crop(panorama, left_column(turn % 360, heading_deg=0, height_px=len(panorama))),
                raster,
                quality,
            )
        exposure = _exposure(random, shot, self.options)
        raster = self._fill(shot, camera)
        run = self.runs[shot.run]
        return expose(raster, run, self.light(run), exposure, random), raster, exposure.jpeg_quality

    def _panorama_of(self, shot: Shot) -> tuple[np.ndarray, Raster, int]:
        """The panorama that a shot is, or is cut from: the last one is kept, as its crops are asked
        for one after the other."""
        number = shot.cut_from if shot.is_cut else shot.number
        if self._last is None or self._last[0] != number:
            whole = replace(shot, number=number, grid_heading_deg=shot.panorama_deg, tile=0)
            exposure = _exposure(random_stream(self.plan.seed, _PHOTO, number), whole, self.options)
            self._last = (number, *self._panorama(whole, exposure), exposure.jpeg_quality)
        return self._last[1:]

    def _panorama(self, shot: Shot, exposure: Exposure) -> tuple[np.ndarray, Raster]:
        """All around at once: eight views brought onto a cylinder of angles."""
        views, rasters = [], []
        grid_headings = [shot.grid_heading_deg + 45.0 * k for k in range(8)]
        for grid_heading in grid_headings:
            rasters.append(
                self._fill(shot, panorama_view(shot, grid_heading, height=self.options.height))
            )
        level = brightness(rasters[0], self.runs[shot.run], self.light(self.runs[shot.run]))
        for k, raster in enumerate(rasters):
            run = self.runs[shot.run]
            random = random_stream(self.plan.seed, _PHOTO, shot.number, k)
            views.append(expose(raster, run, self.light(run), exposure, random, level=level))
        return join_panorama(
            views, [raster.camera for raster in rasters], grid_headings, height=self.options.height
        ), rasters[0]

    def _fill(self, shot: Shot, camera: Camera) -> Raster:
        """Everything the camera of a shot sees."""
        options, run = self.options, self.runs[shot.run]
        raster = Raster(camera)
        planes = []
        # The photos of one stop see the same traffic.
        traffic_key = (
            shot.run * 100_000 + shot.stop if shot.role == "database" else 1_000_000 + shot.number
        )
        if not options.is_clean:
            random = random_stream(self.plan.seed, _PHOTO, traffic_key, 1)
            quiet = {"night": 0.5, "snow": 0.6, "rain": 0.6}.get(
                shot.condition, 1.0
            ) * options.traffic
            planes = street_life(
                random, self.plan.streets[shot.street], camera.centre, density=quiet, crowd=quiet
            )
            if shot.condition == "occluded":
                planes += in_the_way(random, camera.centre, camera.rotation[2])
        self.scene.draw(raster, run.epoch, planes)
        return raster


def _exposure(random: np.random.Generator, shot: Shot, options: CaptureOptions) -> Exposure:
    if options.is_clean:
        return Exposure(noise=0.3, vignette=0.0, jpeg_quality=94)
    if shot.role == "database":
        return Exposure(blur_px=0.45, noise=0.8, jpeg_quality=92)
    scale = options.width / 320
    is_shaken = random.random() < 0.2
    motion = random.normal(0, 1.2, 2) * scale if is_shaken else np.zeros(2)
    return Exposure(
        gain=float(np.exp(random.normal(0, 0.16))),
        balance=(float(random.uniform(0.92, 1.08)), 1.0, float(random.uniform(0.92, 1.08))),
        blur_px=float(random.uniform(0.35, 0.75)) * max(1.0, scale**0.5),
        motion_px=(float(motion[0]), float(motion[1])),
        noise=float(random.uniform(0.7, 1.6)),
        vignette=float(random.uniform(0.05, 0.35)),
        jpeg_quality=int(random.integers(70, 95)),
    )
