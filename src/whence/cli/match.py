"""`whence match`: do two photos show the same thing?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from whence.cli import completion
from whence.cli.output import EXIT_UNKNOWN, print_json, print_note, show
from whence.data.pictures import WarpedPair, WarpScorer
from whence.errors import BadOption
from whence.settings import parse_options
from whence.types import Match

if TYPE_CHECKING:
    from whence.localize.prepared_photos import PreparedPhotos


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "match",
        help=(
            "Compare two photos: how many points agree on one geometry, or how alike their parts "
            "are."
        ),
    )(match)


def match(
    photo0: str = typer.Argument(..., metavar="A", help="First photo."),
    photo1: str = typer.Argument(..., metavar="B", help="Second photo."),
    matcher: str = typer.Option(
        "rootsift-mnn",
        autocompletion=completion.matchers,
        help="What pairs points: rootsift-mnn, orb-mnn, aliked-lightglue, loftr, ...",
    ),
    weights: str = typer.Option(
        "", help="File with the matcher's weights, or folder with all of them. Default: the cache."
    ),
    geometry: str = typer.Option(
        "homography",
        help="What points must agree on: homography, affine, similarity or fundamental.",
    ),
    method: str = typer.Option(
        "magsac", help="Robust estimator: magsac, ransac, accurate, or poselib."
    ),
    long_side: int = typer.Option(
        640, help="Larger photos are matched at this long side, in pixels."
    ),
    max_keypoints: int = typer.Option(2000, help="Keypoints per photo."),
    ratio: float = typer.Option(
        None, help="Ratio test: how much nearer the nearest neighbour must be than the second."
    ),
    scorer: str = typer.Option(
        "inliers",
        autocompletion=completion.scorers,
        help="How: inliers, geowarp, ransac, rapid, patches, or a chain: rapid:1,inliers:1.",
    ),
    scorer_option: list[str] = typer.Option(
        [],
        "--scorer-option",
        help="Option of another scorer than inliers as name=value. May be repeated.",
    ),
    turned: bool = typer.Option(
        None,
        "--turned/--upright",
        help="The photos may be turned against each other, or are both upright. Default: try both.",
    ),
    picture: str = typer.Option(
        None, help="Write both photos with what was found to this file (.png or .jpg)."
    ),
    attention: str = typer.Option(
        None,
        autocompletion=completion.models,
        help=(
            "With --picture: lay over both photos what this model's attention looks at; a name, "
            "or a file with a card."
        ),
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of text."),
) -> int:
    """Match two photos; points and geometry are in pixels of the photos as they are. geowarp's
    corners are from -1 to 1.

    Photos whose matches agree no better than chance gives are no match, and the exit code is 3.
    """
    if attention is not None and (picture is None or scorer != "inliers"):
        raise BadOption(
            "--attention is drawn with the matches: give --picture FILE, and no --scorer"
        )
    if scorer != "inliers":
        return _score(
            photo0, photo1, scorer, parse_options(scorer_option), picture=picture, as_json=as_json
        )
    if scorer_option:
        raise BadOption(
            "--scorer-option is for other scorers; inliers has the other options of this verb"
        )
    from whence.data.pictures import draw_match
    from whence.localize.pairs import match_record
    from whence.matching.matchers import MatchOptions, match_images

    options = MatchOptions(
        geometry=geometry,  # type: ignore[arg-type]
        long_side_px=long_side,
        max_keypoints=max_keypoints,
        ratio=ratio,
        is_upright=None if turned is None else not turned,
        matcher=matcher,
        method=method,  # type: ignore[arg-type]
        weights=weights,
    )
    found = match_images(Path(photo0), Path(photo1), options=options)
    if picture is not None:
        looked = (lambda image: image) if attention is None else _looking(attention)
        _write_picture(
            picture,
            photo0,
            photo1,
            lambda image0, image1: draw_match(looked(image0), looked(image1), found),
        )
    if as_json:
        print_json({"photo0": photo0, "photo1": photo1, **match_record(found)})
    else:
        _show_match(found, matcher)
    return 0 if found.is_match else EXIT_UNKNOWN


def _show_match(result: Match, matcher: str) -> None:
    if not result.is_match:
        show(f"no match: {result.reason}")
        return
    sure = (
        ""
        if result.confidence is None
        else f"; the same thing with a probability of {result.confidence:.2f}"
    )
    counts = f"{result.num_inliers} inliers of {result.num_matches} matches ({result.model})"
    show(f"{counts}, coverage {100 * result.coverage:.0f} %{sure}")
    if result.confidence is None:
        print_note(
            f"not verified: no probability was fitted for {matcher} with a {result.model}; the "
            "match is better than chance"
        )


def _score(
    photo0: str,
    photo1: str,
    name: str,
    options: Mapping[str, Any],
    *,
    picture: str | None,
    as_json: bool,
) -> int:
    """Compare by another scorer: by one that warps, with the parts it finds the same."""
    from whence.data.photos import Photos
    from whence.localize.prepared_photos import PreparedPhotos
    from whence.localize.rerank_options import rerank_options

    material = PreparedPhotos.for_options(
        rerank_options(name, scorer_options=options), Photos.of([])
    )
    if isinstance(material.scorer, WarpScorer):
        return _warp(photo0, photo1, name, material, picture=picture, as_json=as_json)
    if picture is not None:
        raise BadOption(f"{name} finds nothing to draw: --picture is for inliers and geowarp")
    query, candidate = material.of_query(Path(photo0)), material.of_image(Path(photo1))
    found = next(iter(material.scorer.score(query, [candidate])))
    assert found is not None, "both photos were read"
    if as_json:
        print_json({"photo0": photo0, "photo1": photo1, "scorer": name, **asdict(found)})
    else:
        inliers = "" if found.num_inliers is None else f", {found.num_inliers} inliers"
        show(f"similarity {found.similarity:g}; {found.num_matches} matches{inliers} ({name})")
    return 0


def _warp(
    photo0: str,
    photo1: str,
    name: str,
    material: PreparedPhotos,
    *,
    picture: str | None,
    as_json: bool,
) -> int:
    """Compare by a scorer that warps."""
    from whence.data.pictures import draw_warped_pair
    from whence.localize.pairs import warp_record
    from whence.models.descriptor import read_as

    steps = material.card.preprocessing
    found: WarpedPair = material.scorer.compare(  # type: ignore[attr-defined]
        *(read_as(Path(photo), steps) for photo in (photo0, photo1))
    )
    if picture is not None:
        _write_picture(
            picture, photo0, photo1, lambda image0, image1: draw_warped_pair(image0, image1, found)
        )
    if as_json:
        print_json({"photo0": photo0, "photo1": photo1, "scorer": name, **warp_record(found)})
    else:
        most = found.cells.size
        show(
            f"similarity {found.similarity:.2f} of {most} from one viewpoint; of the whole photos "
            f"{found.whole_similarity:.2f}"
        )
    return 0


def _looking(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """What draws over a photo where a model's attention looks. Raises `BadOption` for a model
    without attention."""
    from whence.data.pictures import draw_attention
    from whence.models.descriptor import load_model

    model = load_model(name)

    def draw(image: np.ndarray) -> np.ndarray:
        weights = model.attention(image)
        if weights is None:
            raise BadOption(
                f"{name} has no attention to draw; networks with the aggregator attention have one"
            )
        return draw_attention(image, weights)

    return draw


def _write_picture(
    path: str, photo0: str, photo1: str, draw: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    from whence.data.images import load_resized
    from whence.data.pictures import write_picture

    image0, image1 = (load_resized(Path(photo), long_side_px=1024) for photo in (photo0, photo1))
    write_picture(path, draw(image0, image1))
