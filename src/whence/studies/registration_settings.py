"""The settings of the study of registration: what its grid lists and its runs are measured by."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Run, Settings

SUMMARIES = ("mean of affine", "mean of homography", "all settings")
"""In place of a geometry: what the settings of one matcher and kind come to together."""
ALL_KINDS = "all"


def list_settings(options: Settings) -> Sequence[Run]:
    """The runs, from the resolved options."""

    def numbers(name: str) -> list[int]:
        return [int(text) for text in str(options[name]).split()]

    runs = []
    for matcher in str(options["matchers"]).split():
        for kind in str(options["kinds"]).split() or [ALL_KINDS]:
            for side in numbers("sides"):
                for tile in numbers("tiles"):
                    for overlap in numbers("overlaps") if tile else [0]:
                        if overlap >= tile > 0:
                            continue
                        for geometry in ("affine", "homography"):
                            for least in numbers("inliers"):
                                about = {
                                    "max side": side,
                                    "tile": tile,
                                    "overlap": overlap,
                                    "geometry": geometry,
                                }
                                runs.append(
                                    Run(
                                        {
                                            "matcher": matcher,
                                            "kind": kind,
                                            **about,
                                            "inliers": least,
                                        }
                                    )
                                )
            for summary in SUMMARIES:
                runs.append(Run({"matcher": matcher, "kind": kind, "geometry": summary}))
    return runs
