"""Every writer of the project, for `test_writers`: a callable that writes one output, and which
file it writes.

Inputs are small and made once; each writer gets a folder of its own. Writers of a verb are also
given as a command line.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conftest import ORIGIN, draw_place, view_of, write_photo, write_street
from whence.cards import Origin
from whence.data.exif_gps import with_gps_tags
from whence.data.geotags import Geotag, Waypoint, sidecar_of, write_gpx, xmp_sidecar
from whence.data.pictures import write_picture
from whence.data.predictions import Ranked, write_hloc_pairs, write_predictions
from whence.data.undo import PlannedFile, write_files
from whence.models.checkpoints.packages import take_out
from whence.runtime import atomic_write
from whence.types import Candidate, Position

SOURCE_OF_OLD = b"what stood here before"


@dataclass(frozen=True)
class Inputs:
    """What the writers write from; tests must not change it."""

    root: Path
    database: Path
    query: Path
    street: Path

    @classmethod
    def make(cls, root: Path) -> Inputs:
        """A street of a few places, its database, and a photo of one place."""
        from whence.cli import run

        write_street(root / "street" / "database", num_places=4, shift=0, run=0)
        (query,) = write_street(root / "street" / "queries", num_places=1, shift=25, run=1)
        write_street(root / "untagged", num_places=2, shift=0, run=0)
        write_photo(root / "untagged" / "plain.jpg", view_of(draw_place(1), shift=12, seed=3))
        assert (
            run(["index", str(root / "street" / "database"), "--db", str(root / "c.whence"), "-q"])
            == 0
        )
        return cls(root, root / "c.whence", query, root / "street")


@dataclass(frozen=True)
class Writer:
    """One writer of one output."""

    name: str
    write: Callable[[Inputs, Path], object]
    """Writes into a folder."""
    file: str
    """What it writes there, relative to the folder."""
    is_replacing: bool = True
    """Whether an older file of that name may be replaced; where not, new files are made only."""
    is_flushed: bool = True
    """Whether each file is flushed to disk; pictures of a world are not: they can be made again."""


def _ranked() -> tuple[Ranked, ...]:
    return (Ranked("q.jpg", tuple(Candidate(f"{i}.jpg", i + 1, 0.5) for i in range(2000))),)


def _position() -> Position:
    return Position(
        "q.jpg", "located", point=ORIGIN, candidates=(Candidate("a.jpg", 1, 0.5, point=ORIGIN),)
    )


def _page(inputs: Inputs, folder: Path) -> None:
    from whence.evaluation.html import write_page
    from whence.evaluation.page import Page

    write_page(folder / "page.html", Page("answers", ()))


def _csv_of_answers(inputs: Inputs, folder: Path) -> None:
    from whence.localize.records import write_csv

    write_csv(str(folder / "answers.csv"), [_position()] * 50)


def _geojson(inputs: Inputs, folder: Path) -> None:
    from whence.localize.records import write_geojson

    write_geojson(str(folder / "answers.geojson"), [_position()] * 50)


def _track(inputs: Inputs, folder: Path) -> None:
    from whence.localize.track_files import write_line
    from whence.localize.tracking import TrackPoint

    write_line(
        str(folder / "track.geojson"),
        [TrackPoint(number, float(number), _position(), ORIGIN) for number in range(50)],
    )


def _sheet(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.sheets import contact_sheet

    contact_sheet(folder / "sheet.png", preset="tiny")


def _written(planned: PlannedFile, folder: Path) -> None:
    """`write_files` reports what it could not write; for the battery that is the error."""
    done = write_files([planned], folder=folder)
    for entry in done.skipped:
        raise OSError(entry.reason)


def _sidecar(inputs: Inputs, folder: Path) -> None:
    _written(
        PlannedFile(
            sidecar_of(folder / "photo.jpg"), lambda: xmp_sidecar(Geotag(ORIGIN, 90.0, 12.0))
        ),
        folder,
    )


def _copy(inputs: Inputs, folder: Path) -> None:
    _written(
        PlannedFile(
            folder / "copy.jpg", lambda: with_gps_tags(inputs.query, Geotag(ORIGIN, 90.0, 12.0))
        ),
        folder,
    )


def _calibration(inputs: Inputs, folder: Path) -> None:
    from whence.localize.calibration_files import packaged_calibrations, write_calibration

    write_calibration(folder / "calibration.json", packaged_calibrations()[0])


def _export(inputs: Inputs, folder: Path) -> None:
    from whence.localize.maintain import export_database

    export_database(inputs.database, folder)


def _saved_index(kind: str) -> Callable[[Inputs, Path], None]:
    def write(inputs: Inputs, folder: Path) -> None:
        from whence.index.ann import AnnIndex
        from whence.index.cells.engine import CellIndex
        from whence.index.flat import FlatIndex
        from whence.index.int8 import Int8Index

        made = {"flat": FlatIndex, "ann": AnnIndex, "int8": Int8Index, "cells": CellIndex}[kind](
            dim=16
        )
        made.add(np.arange(40), np.eye(16, dtype=np.float32)[np.arange(40) % 16])
        made.save(folder / "index.npz")

    return write


def _partition(inputs: Inputs, folder: Path) -> None:
    from whence.data.partition import CellOptions, make_partition

    make_partition(np.arange(40.0), np.arange(40.0), options=CellOptions(10, 360, 1, 1, 1)).write(
        folder / "partition.npz"
    )


def _cells(inputs: Inputs, folder: Path) -> None:
    from whence.index.cells.classifier import CellClassifier, write_cells

    write_cells(
        folder / "cells.npz", CellClassifier(np.eye(3, dtype=np.float32), np.zeros((3, 2)), 20.0)
    )


def _world(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.city import WorldOptions, render_world
    from whence.worlds.presets import CitySize

    options = WorldOptions(cities=(CitySize("city00", "", 4, 1, 1),))
    render_world(folder / "world", options=options, num_workers=1, show_progress=False)


def _world_file(inputs: Inputs, folder: Path) -> None:
    from whence.localize.georeference import write_world_file

    write_world_file(
        folder / "a.wld", np.array([[45.0, 7.0], [46.0, 7.5], [46.5, 9.0], [45.2, 8.4]]), (3, 2)
    )


def _earth(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.earth.plan import EarthSpec, RegionSize
    from whence.worlds.earth.world import render_earth

    spec = EarthSpec(1, (RegionSize("region00", "", 4, 1, (2021,)),), tile_px=16, photo_px=16)
    render_earth(folder / "earth", spec, num_workers=1, show_progress=False)


def _positions(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.positions import write_positions

    write_positions(folder / "positions", num_photos=200, show_progress=False)


def _table_of_truth(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.truth import write_cameras

    write_cameras(folder / "cameras.csv", [["a.jpg", *[0.5] * 20]] * 60)


def _png_of_truth(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.tables import write_png

    write_png(folder / "depth.png", np.arange(4000, dtype=np.uint16).reshape(40, 100))


def _model_of_points(inputs: Inputs, folder: Path) -> None:
    from whence.data.colmap import ModelImage, write_model

    image = ModelImage(
        "a.jpg", np.array([1.0, 0, 0, 0]), np.zeros(3), 1, *np.zeros((2, 40)), np.arange(40)
    )
    write_model(folder, [image], cameras=[(4, 3, np.ones(4))] * 3, points=np.zeros((40, 3)))


def _keypoints_of_photos(inputs: Inputs, folder: Path) -> None:
    from whence.data.feature_files import PhotoKeypoints, write_keypoints

    photos = (
        PhotoKeypoints(f"{i}.jpg", np.ones((40, 2)), np.ones((40, 8)), np.ones(40))
        for i in range(4)
    )
    write_keypoints(folder / "keypoints.h5", photos)


def _list_of_images(inputs: Inputs, folder: Path) -> None:
    from whence.worlds.tables import write_image_lists

    write_image_lists(folder, [f"database/{i}.jpg" for i in range(60)])


def _raw(inputs: Inputs, folder: Path) -> None:
    with atomic_write(folder / "raw.bin") as file:
        file.write(bytes(5000))


def _weights(inputs: Inputs, folder: Path) -> None:
    from safetensors.torch import save_file

    from whence.models.cards.text import CARD_FIELD, card_to_text
    from whence.models.checkpoints.networks import convert, make_network
    from whence.models.zoo import find_card

    card = find_card("gem-resnet18conv4-256-pitts30k")
    source = inputs.root / "ours.safetensors"
    if not source.is_file():
        save_file(make_network(card).state_dict(), source, {CARD_FIELD: card_to_text(card)})
    convert([source], card=card, out=folder / "converted.safetensors")


def _checkpoint(inputs: Inputs, folder: Path) -> None:
    import torch

    from whence.training.checkpoints import write_checkpoint

    write_checkpoint(folder / "step.safetensors", {"weight": torch.zeros(4000)}, {"step": 3})


def _recipe(inputs: Inputs, folder: Path) -> None:
    from whence.recipes import get_recipe
    from whence.training.record import claim_run

    claim_run(folder, get_recipe("tiny"), data={}, is_resumed=False)


def _clients(inputs: Inputs, folder: Path) -> None:
    from whence.data.formats import read_folders
    from whence.training.federated.options import SplitOptions
    from whence.training.federated.splits import split, write_clients

    options = SplitOptions(num_clients=1, min_queries=0, num_negatives=0)
    write_clients(folder / "clients.csv", split(read_folders(inputs.street), options=options))


def _journal_rows(inputs: Inputs, folder: Path) -> None:
    from whence.journal import Entry
    from whence.journal.files import write_entries
    from whence.types import Position

    positions = [Position(f"{number}.jpg", "unknown", reason="far " * 20) for number in range(60)]
    write_entries(
        folder / "journal.csv",
        [Entry(number, 1.0, 1.0, None, one) for number, one in enumerate(positions)],
    )


def _federation(inputs: Inputs, folder: Path) -> None:
    from whence.recipes import get_recipe
    from whence.training.federated.options import FederatedOptions
    from whence.training.federated.plans import Federation

    Federation(get_recipe("tiny-tuples"), FederatedOptions(), folder / "run").write()


def _comparison(inputs: Inputs, folder: Path) -> None:
    from whence.evaluation.comparison import Compared, Comparison
    from whence.evaluation.comparison_report import write_comparison
    from whence.evaluation.metrics import recalls

    ranks = np.arange(8)
    models = tuple(Compared(f"model {number} " * 20, recalls(ranks), ranks) for number in range(20))
    write_comparison(
        folder / "comparison.html", Comparison("set", "protocol", 25.0, 8, 8, models, ())
    )


def _study(inputs: Inputs, folder: Path) -> None:
    from study_samples import SAMPLE
    from whence.studies.frame import Budget, run_study

    run_study(
        SAMPLE,
        out=folder,
        options={"data": "set " * 1000},
        budget=Budget(is_measuring=False),
        show_progress=False,
    )


def _table_of_a_study(inputs: Inputs, folder: Path) -> None:
    from whence.studies.tables import write_text

    write_text(folder / "table.md", "| cell |\n" * 600)


def _out_of_a_package(inputs: Inputs, folder: Path) -> None:
    # A folder with a photo stands for the unpacked package: what is in the file does not matter
    # here.
    photo = inputs.query
    checksum = hashlib.sha256(photo.read_bytes()).hexdigest()
    take_out(
        photo.parent,
        Origin("package", "made-up==1", "a.pth", photo.name, sha256=checksum),
        folder / "a.pth",
    )


WRITERS = (
    Writer("any file", _raw, "raw.bin"),
    Writer("page", _page, "page.html"),
    Writer("answers as CSV", _csv_of_answers, "answers.csv"),
    Writer("answers as GeoJSON", _geojson, "answers.geojson"),
    Writer("rows of a journal", _journal_rows, "journal.csv"),
    Writer("track as GeoJSON", _track, "track.geojson"),
    Writer(
        "predictions",
        lambda inputs, folder: write_predictions(folder / "p.csv", _ranked()),
        "p.csv",
    ),
    Writer(
        "hloc pairs", lambda inputs, folder: write_hloc_pairs(folder / "p.txt", _ranked()), "p.txt"
    ),
    Writer(
        "picture", lambda inputs, folder: write_picture(folder / "m.png", draw_place(3)), "m.png"
    ),
    Writer("contact sheet", _sheet, "sheet.png"),
    Writer(
        "GPX",
        lambda inputs, folder: write_gpx(folder / "a.gpx", [Waypoint("a", ORIGIN)] * 40),
        "a.gpx",
    ),
    Writer("sidecar and undo file", _sidecar, "photo.jpg.xmp", is_replacing=False),
    Writer("copy and undo file", _copy, "copy.jpg", is_replacing=False),
    Writer("calibration", _calibration, "calibration.json"),
    Writer("export", _export, "descriptors.npy"),
    Writer("flat index", _saved_index("flat"), "index.npz"),
    Writer("approximate index", _saved_index("ann"), "index.npz"),
    Writer("8-bit index", _saved_index("int8"), "index.npz"),
    Writer("partition", _partition, "partition.npz"),
    Writer("index by cells", _saved_index("cells"), "index.npz"),
    Writer("cells", _cells, "cells.npz"),
    Writer("world", _world, "world/world.json", is_replacing=False),
    Writer("world file", _world_file, "a.wld"),
    Writer("earth", _earth, "earth/world.json", is_replacing=False),
    Writer("virtual positions", _positions, "positions/positions.json", is_replacing=False),
    Writer("cameras", _table_of_truth, "cameras.csv"),
    Writer("picture of the truth", _png_of_truth, "depth.png", is_flushed=False),
    Writer("comparison", _comparison, "comparison.html"),
    Writer("study", _study, "study.json", is_replacing=False),
    Writer("clients of a split", _clients, "clients.csv"),
    Writer("federated training", _federation, "run/federated.json", is_replacing=False),
    Writer("table of a study", _table_of_a_study, "table.md"),
    Writer("file of a package", _out_of_a_package, "a.pth"),
    Writer("model of points", _model_of_points, "images.bin"),
    Writer("list of images", _list_of_images, "database_images_paths.txt"),
)
if importlib.util.find_spec("h5py") is not None:
    WRITERS += (Writer("keypoints of photos", _keypoints_of_photos, "keypoints.h5"),)
if importlib.util.find_spec("torch") is not None:
    WRITERS += (
        Writer("weights", _weights, "converted.safetensors"),
        Writer("checkpoint of a training", _checkpoint, "step.safetensors"),
        Writer("recipe of a training", _recipe, "recipe.json", is_replacing=False),
    )
"""One line for each writer; `test_structure` sees to it that there are no others than those that go
through `atomic_write`."""


def commands(inputs: Inputs, folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Command lines that write one output each: the file (or folder) the message must name, and the
    arguments."""
    street, database, query = str(inputs.street), str(inputs.database), str(inputs.query)
    located = ["locate", query, "--db", database, "-q"]
    missing = ["tag", str(inputs.root / "untagged"), "-q", "--yes", "--include-unverified"]
    return {
        "locate --csv": ("a.csv", [*located, "--csv", str(folder / "a.csv")]),
        "locate --geojson": ("a.geojson", [*located, "--geojson", str(folder / "a.geojson")]),
        "locate --gpx": ("a.gpx", [*located, "--gpx", str(folder / "a.gpx")]),
        "locate --report": ("a.html", [*located, "--report", str(folder / "a.html")]),
        "tag --csv": ("m.csv", [*missing[:-2], "--csv", str(folder / "m.csv")]),
        "tag --write copies": ("undo", [*missing, "--write", "copies", "--copies-to", str(folder)]),
        "evaluate --report": (
            "e.html",
            ["evaluate", street, "-q", "--report", str(folder / "e.html")],
        ),
        "evaluate --save-predictions": (
            "e.csv",
            ["evaluate", street, "-q", "--save-predictions", str(folder / "e.csv")],
        ),
        "match --picture": ("m.png", ["match", query, query, "--picture", str(folder / "m.png")]),
        "database export": (
            "descriptors.npy",
            ["database", "export", str(folder), "--db", database, "-q"],
        ),
        "world city": (
            "world",
            ["world", "city", str(folder / "world"), "--preset", "tiny", "--workers", "1", "-q"],
        ),
        "world city --layout positions": (
            "positions",
            [
                "world",
                "city",
                str(folder / "positions"),
                "--layout",
                "positions",
                "--num-photos",
                "200",
                "-q",
            ],
        ),
    }
