"""Co-registration side by side with the published loop: one candidate, and a shortlist of ten, by
the same matcher.

    python benchmarks/coregistration.py EARTH [--matcher rootsift-mnn] [--photos 6] [--rounds 3]

EARTH is an Earth world (`whence world earth`), or its split test. The published way describes the
photo and the candidate in every round and follows every candidate to the end. Ours describes the
photo once, looks at both at LOOK pixels, and gives up those of which fewer than FIRST points agree
there. Answers are the same where both locate the photo in the same tile, or neither does; how many
stands beside the ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from side_by_side import compare

from whence.data.evaluation_sets import open_set
from whence.data.footprints import footprint_of, iou, overlapping
from whence.data.images import load_resized
from whence.data.mosaics import TileMosaic
from whence.data.tiles import box_corners, tile_boxes
from whence.localize.coregister import CoregisterOptions, Coregistration, coregister, finder
from whence.localize.from_orbit import MIN_INLIERS
from whence.localize.georeference import roll_deg
from whence.parts import Matcher
from whence.registry import build
from whence.runtime import random_stream, set_threads

SHORTLIST = 10


class Forgetful:
    """A matcher whose photo is described anew each time, as the published loop does."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher, self.key = matcher, matcher.key

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": image}

    def match(self, query: Mapping[str, np.ndarray], candidates):
        both = (self.matcher.prepare(one["image"]) for one in candidates)
        return self.matcher.match(self.matcher.prepare(query["image"]), both)


def located(answers: list[Coregistration]) -> int:
    """The candidate that the photo is found in; -1 for none."""
    counts = [
        one.num_inliers if one.is_match and one.num_inliers >= MIN_INLIERS else 0 for one in answers
    ]
    return int(np.argmax(counts)) if max(counts) else -1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("earth", type=Path)
    parser.add_argument("--matcher", default="rootsift-mnn")
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--first", type=int, default=6)
    parser.add_argument("--look", type=int, default=256)
    arguments = parser.parse_args()
    set_threads(1)
    data = open_set(str(arguments.earth), layout="earthloc")
    mosaic = TileMosaic(
        data.database.paths, lambda row: str(data.database.file(row)), side_px=arguments.side
    )
    rows = np.array(sorted(mosaic.row_of.values()))
    boxes = tile_boxes(np.array([mosaic.tile_of[row] for row in rows]))
    corners = box_corners(boxes)
    own = {"is_upright": False} if arguments.matcher == "rootsift-mnn" else {}
    plain = CoregisterOptions(side_px=arguments.side)
    hasty = CoregisterOptions(
        side_px=arguments.side, first_inliers=arguments.first, look_px=arguments.look
    )
    shortlists = []
    for photo in range(min(arguments.photos, len(data.queries))):
        truth = footprint_of(data.queries.paths[photo])
        assert truth is not None, "the layout gives footprints"
        near = overlapping(truth, corners)
        random = random_stream(0, photo)
        best = max(near.tolist(), key=lambda place: iou(truth, corners[place]))
        far = np.setdiff1d(np.arange(len(rows)), near)
        chosen = [best, *random.choice(far, SHORTLIST - 1, replace=False).tolist()]
        random.shuffle(chosen)
        image = load_resized(data.queries.file(photo), short_side_px=arguments.side)
        turns = -round(roll_deg(truth) / 90) % 4
        around = [
            (mosaic.surroundings(int(rows[place])), boxes[place].tolist()) for place in chosen
        ]
        shortlists.append((image, turns, around, chosen.index(best)))

    def run(shortlist: int, *, is_ours: bool, num: int = SHORTLIST) -> list[Coregistration]:
        image, turns, around, first = shortlists[shortlist]
        matcher = build("matcher", arguments.matcher, options=own)
        find = finder(matcher if is_ours else Forgetful(matcher))
        ways = (hasty if num > 1 else plain) if is_ours else plain
        chosen = around if num > 1 else around[first : first + 1]
        return [coregister(image, *one, find, turns=turns, options=ways) for one in chosen]

    many = range(len(shortlists))
    for title, num in (
        ("one co-registration, four rounds", 1),
        (f"a shortlist of {SHORTLIST}", SHORTLIST),
    ):
        compare(
            title,
            {
                "published": lambda num=num: [run(one, is_ours=False, num=num) for one in many],
                "ours": lambda num=num: [run(one, is_ours=True, num=num) for one in many],
            },
            peer="published",
            items=len(shortlists),
            rounds=arguments.rounds,
        )
    same = sum(located(run(one, is_ours=False)) == located(run(one, is_ours=True)) for one in many)
    right = sum(located(run(one, is_ours=True)) == shortlists[one][3] for one in many)
    print(f"\nthe same answers: {same} of {len(shortlists)} shortlists; in the right tile: {right}")


if __name__ == "__main__":
    main()
