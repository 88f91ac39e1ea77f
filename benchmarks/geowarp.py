"""GeoWarp: milliseconds per query for each read-out against the published flow, and what a photo
keeps.

    python benchmarks/geowarp.py [--side PX] [--candidates N] [--backbone NAME] [--rounds N]
                                 [--json FILE] [--quick]
    # torch held to AVX2; onnxruntime cannot be
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/geowarp.py

The published flow reads both photos of a pair from disk and passes four images through the
backbone: both originals, both cut out. Ours passes each photo once, when it is kept; the query,
once per query, is part of our times. All ways run in this process, interleaved, on one thread; for
more candidates than `--peer-candidates` the published flow's time is proportional (it works pair by
pair) and is marked so. The exact read-out must give the published order, which is checked first, in
float32 and in bfloat16.

Weights are random, but of the published sizes: times and bytes depend on nothing else. Batch norms
are fitted to the photos, so that these differ, and the regressor's quadrilaterals are made to move,
so that they are not the whole image. Then SIFT + MAGSAC (the scorer `inliers`), for comparison, and
the time against the size of the database, whose photos are kept in it. Photos are rendered. The
scorer `geowarp` on EfficientNet-Lite0, without torch, is asked the same with its own weights
(`geowarp: ...`), by onnxruntime where that is installed, else by OpenCV.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from side_by_side import Timing, compare, options, save

from whence.data.formats import read_folders
from whence.data.images import load_image, load_resized
from whence.data.photos import Photos
from whence.index.store import Store
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.matching.scorers import InlierScorer
from whence.models.backbones import make_backbone
from whence.models.preprocessing import normalise
from whence.models.warp.engines import Computing
from whence.models.warp.geometry import warp
from whence.models.warp.model import GeoWarp, cell_similarities
from whence.models.warp.scorer import GeoWarpScorer, WarpOptions
from whence.models.warp.torch_engine import TorchEngine
from whence.parts import PairScorer
from whence.registry import build, get_card
from whence.runtime import set_threads
from whence.types import Candidate, Photo
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

PEER = "published flow"
SLOW = ("exact, float32",)
DATABASE_SIZES = (100, 1000, 10_000)


def published_flow(model: GeoWarp, query: np.ndarray, files: list[Path]) -> list[float]:
    """Four passes of the backbone for each pair, one order of the regressor after the other, photos
    read again for every query."""
    values = []
    with torch.inference_mode():
        first = normalise(torch.from_numpy(query)[None]).contiguous()
        for file in files:
            second = normalise(torch.from_numpy(load_image(file))[None]).contiguous()
            local = model.local(first), model.local(second)
            forth, back = model.quads(*local), model.quads(*reversed(local))
            quads = (forth[:, :4] + back[:, 4:]) / 2, (forth[:, 4:] + back[:, :4]) / 2
            cut = [
                model.local(warp(image, quad, sampling=model.sampling))
                for image, quad in zip((first, second), quads, strict=True)
            ]
            values.append(cell_similarities(*cut).sum().item())
    return values


def moving_model(backbone: str, images: list[np.ndarray]) -> GeoWarp:
    """A model of random weights whose quadrilaterals move, its batch norms fitted to a few
    images."""
    torch.manual_seed(0)
    model = GeoWarp(make_backbone(backbone)).train()
    with torch.no_grad():
        for _ in range(20):
            model.local(normalise(torch.from_numpy(np.stack(images[:4]))).contiguous())
    model.eval()
    torch.nn.init.normal_(model.regressor.linear.weight, std=0.05)
    return model


def ways_of(backbone: str, images: list[np.ndarray], *, is_bfloat16: bool) -> dict[str, PairScorer]:
    """Our ways, each with a model of its own."""
    fast: Computing = "bfloat16" if is_bfloat16 else "float32"
    plain, quick = (
        TorchEngine(moving_model(backbone, images), dtype=dtype) for dtype in ("float32", fast)
    )
    scorers: dict[str, PairScorer] = {
        "exact, float32": GeoWarpScorer(plain, options=WarpOptions("exact")),
        f"exact, {fast}": GeoWarpScorer(quick, options=WarpOptions("exact")),
        f"half size, {fast}": GeoWarpScorer(quick, options=WarpOptions("half")),
        f"hybrid of 5, {fast}": GeoWarpScorer(quick, options=WarpOptions("hybrid")),
        f"features, {fast}": GeoWarpScorer(quick, options=WarpOptions("features")),
        f"features as int8, {fast}": GeoWarpScorer(
            quick, options=WarpOptions("features", storage="int8")
        ),
    }
    own = {
        f"geowarp: {readout}": build("scorer", "geowarp", options={"readout": readout})
        for readout in ("exact", "half", "features")
    }
    return {**scorers, **own, "SIFT + MAGSAC (inliers)": InlierScorer()}


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, and torch is not held to AVX2."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2":
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def values_of(
    scorer: PairScorer, query: np.ndarray, candidates: list[dict[str, np.ndarray]]
) -> list[float]:
    """Similarities of the candidates to a query that is prepared now."""
    return [
        one.similarity for one in scorer.score(scorer.prepare(query), candidates) if one is not None
    ]


def check_order(published: list[float], values: list[float], name: str) -> bool:
    """Whether the order is the published one; printed with the largest difference and the smallest
    gap."""
    gap = float(np.diff(np.sort(published)).min())
    is_same = bool(
        np.array_equal(
            np.argsort(-np.array(published), kind="stable"),
            np.argsort(-np.array(values), kind="stable"),
        )
    )
    worst = float(np.abs(np.array(published) - np.array(values)).max())
    print(
        f"order of {name}: {'the same' if is_same else 'NOT THE SAME'} for {len(values)} "
        f"candidates (largest difference {worst:.2g} of 225, smallest gap between candidates "
        f"{gap:.2g})"
    )
    return is_same


def compare_ways(
    query: np.ndarray, files: list[Path], arguments: argparse.Namespace
) -> dict[str, list[Timing]]:
    """Tables for each number of candidates."""
    images = [load_image(file) for file in files]
    peer_model, scorers = (
        moving_model(arguments.backbone, images),
        ways_of(arguments.backbone, images, is_bfloat16=has_bfloat16()),
    )
    # The slowest of ours is left out for many candidates, to bound the time of the whole.
    kept = {
        name: [scorer.prepare(image) for image in images[: 20 if name in SLOW else None]]
        for name, scorer in scorers.items()
    }
    height, width = query.shape[:2]
    print(f"\n{arguments.backbone}, photos of {width} x {height}; bytes a photo keeps:")
    for name, arrays in kept.items():
        print(f"  {name:<32}{sum(array.nbytes for array in arrays[0].values()):>12,}")
    num_peer = arguments.peer_candidates
    published = published_flow(peer_model, query, files[:num_peer])
    for name in [name for name in scorers if name.startswith("exact")]:
        check_order(published, values_of(scorers[name], query, kept[name][:num_peer]), name)
    tables = {}
    for num in arguments.candidates:
        if num > len(files):
            continue
        timed = min(num, num_peer)
        ways: dict[str, Callable[[], object]] = {
            PEER: lambda few=files[:timed]: published_flow(peer_model, query, few)
        }
        for name, scorer in scorers.items():
            if len(kept[name]) < num:
                continue
            ways[name] = lambda one=scorer, few=kept[name][:num]: values_of(one, query, few)
        title = f"{width} x {height}, {num} candidates, per query"
        rounds = arguments.rounds if num <= 5 else min(arguments.rounds, 3 if num <= 20 else 1)
        table = compare(
            title,
            ways,
            peer=PEER,
            items=1,
            rounds=rounds,
            scale={PEER: num / timed},
            notes={PEER: f"{timed} candidates times {num / timed:g}"} if timed < num else {},
        )
        tables[title] = table
    return tables


def against_database_size(
    query: np.ndarray, images: list[np.ndarray], *, sizes: tuple[int, ...], folder: Path
) -> dict[str, list[Timing]]:
    """Re-ranking 20 candidates of databases of several sizes, their photos kept in the database."""
    scorer = GeoWarpScorer(
        TorchEngine(moving_model("resnet18conv4", images)),
        options=WarpOptions("features", storage="int8"),
    )
    card, records = (
        get_card("geowarp-resnet18conv4", kind="scorer"),
        [scorer.prepare(image) for image in images[:20]],
    )
    asked, ways = scorer.prepare(query), {}
    for size in sizes:
        contents = [f"{i:032x}" for i in range(size)]
        photos = Photos.of(
            [Photo(path=f"{i}.jpg", content=content) for i, content in enumerate(contents)]
        )
        store = Store.create(folder / f"{size}.whence", card_id="any", dim=1)
        store.add(
            photos, contents=np.array(contents, "S32"), descriptors=np.ones((size, 1), np.float32)
        )
        prepared = PreparedPhotos(scorer, card, photos, store=store)
        store.write_cache(
            prepared.cache_ids[0], contents, [records[i % len(records)] for i in range(size)]
        )
        rows = np.linspace(0, size - 1, 20).astype(int).tolist()
        candidates = [
            Candidate(f"{row}.jpg", rank, 1.0, row=row) for rank, row in enumerate(rows, start=1)
        ]
        ways[f"{size:,} photos"] = lambda known=prepared, found=candidates: rerank(
            found, query=asked, material=known, options=RerankOptions("geowarp-resnet18conv4")
        )
    title = (
        "20 candidates, resnet18conv4, features as int8, per query, against the size of the "
        "database"
    )
    return {title: compare(title, ways, peer=f"{sizes[0]:,} photos", items=1, rounds=5)}


def main() -> None:
    """Render, keep, compare."""
    parser = options("GeoWarp's read-outs against the published flow")
    parser.add_argument(
        "--backbone", default="resnet50conv4", help="backbone (default resnet50conv4)"
    )
    parser.add_argument(
        "--side",
        type=int,
        default=320,
        help="long side of the photos in pixels (default 320; published: 640)",
    )
    parser.add_argument(
        "--candidates",
        type=int,
        nargs="+",
        default=[5, 20, 100],
        help="numbers of candidates (default 5 20 100)",
    )
    parser.add_argument(
        "--peer-candidates",
        type=int,
        default=5,
        help="pairs the published flow is timed on (default 5)",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.backbone, arguments.candidates, arguments.rounds = "resnet18conv4", [5], 1
    set_threads(1)
    num, side = max(arguments.candidates), arguments.side
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        capture = CaptureOptions(width=side, height=3 * side // 4)
        cities = (CitySize("city00", "", max(num, 20), 4, 0),)
        render_world(
            root,
            preset="tiny",
            seed=7,
            options=WorldOptions(capture=capture, cities=cities),
            show_progress=False,
        )
        photos = read_folders(root)
        files = [photos.database.file(row) for row in range(len(photos.database))]
        query = load_resized(photos.queries.file(0), long_side_px=side)
        tables = compare_ways(query, files[:num], arguments)
        sizes = DATABASE_SIZES[:2] if arguments.quick else DATABASE_SIZES
        tables |= against_database_size(
            query, [load_image(file) for file in files[:20]], sizes=sizes, folder=root
        )
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
