"""Queries by a small network, photos of the database by a large one: who prepares what, and who may
ask whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo
from matcher_samples import check_matcher
from whence.data.photos import Photos
from whence.errors import BadOption, UnknownName
from whence.localize.calibration_files import ANY_DESCRIPTOR, find_calibration, key_of
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions, rerank_options
from whence.localize.unknown import NUM_AGAIN, second_options
from whence.matching.asymmetric import AsymmetricNearest, pair_extractors
from whence.matching.cards import SCORERS
from whence.matching.matchers import MatchOptions, MutualNearest, match_images
from whence.matching.scorers import InlierScorer
from whence.models.local.own import open_own_features
from whence.models.local.sift import LocalDescriptors, RootSift
from whence.parts import QuerySide, prepare_query
from whence.registry import build, get_card


@dataclass(frozen=True)
class Small:
    """RootSIFT with fewer keypoints, by another name."""

    key: str = "small"

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        return RootSift(max_keypoints=120).extract(image)


def matcher() -> AsymmetricNearest:
    return AsymmetricNearest(RootSift(max_keypoints=2000), Small(), ratio=0.8)


def test_it_is_a_matcher() -> None:
    check_matcher(matcher())


def test_each_side_is_prepared_by_its_own_extractor() -> None:
    image = draw_place(5)
    asked, kept = matcher().prepare_query(image), matcher().prepare(image)
    assert len(asked["keypoints"]) <= 120 < len(kept["keypoints"])
    scorer = InlierScorer(matcher())
    assert isinstance(scorer, QuerySide)
    assert len(scorer.prepare_query(image)["keypoints"]) == len(asked["keypoints"])
    plain = MutualNearest()
    assert len(prepare_query(plain, image)["keypoints"]) == len(plain.prepare(image)["keypoints"])
    found = match_images(
        image, view_of(image, shift=10, seed=1), options=MatchOptions(), matcher=matcher()
    )
    assert found.num_keypoints[0] <= 120 < found.num_keypoints[1]
    assert found.is_match


def test_what_is_kept_of_the_database_does_not_depend_on_who_asks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert (
        matcher().key.split("/")[0] == MutualNearest(RootSift(max_keypoints=2000)).key.split("/")[0]
    )
    assert "small" in matcher().key
    file = write_photo(tmp_path / "a.jpg", draw_place(2))
    card = SCORERS["inliers"].card
    assert card is not None
    prepared = PreparedPhotos(InlierScorer(matcher()), card, Photos.of([]))
    assert (
        len(prepared.of_query(file)["keypoints"]) <= 120 < len(prepared.of_image(file)["keypoints"])
    )


def test_a_network_asks_only_whom_it_learned_from() -> None:
    small = open_own_features(max_keypoints=100)
    name, digest = small.taught_by
    assert name == "aliked"
    assert pair_extractors(small, RootSift(), name=name, digest=digest).query_extractor is small
    with pytest.raises(BadOption, match="say nothing beside"):
        pair_extractors(small, RootSift(), name=name, digest="other")
    untaught = replace(small, card=replace(small.card, backbone_options={}))
    with pytest.raises(BadOption, match="learned from no other"):
        pair_extractors(untaught, RootSift(), name=name, digest=digest)


def test_the_shipped_features_are_a_matcher_without_weights_to_fetch() -> None:
    found = build("matcher", "whence-local", options={"max_keypoints": 800})
    check_matcher(found)
    assert found.key.startswith("whence-local-800-")
    scorer = build("scorer", "inliers", options={"matcher": "whence-local"})
    assert scorer.key.startswith("whence-local-2000-")
    # By its own name as well, so that it may look a second time.
    assert build("scorer", "whence-local").key == scorer.key
    card = get_card("whence-local", kind="scorer")
    assert (card.licence, card.counts_inliers) == ("MIT", True)
    assert (
        card.preprocessing.long_side_px
        == get_card("inliers", kind="scorer").preprocessing.long_side_px
    )


def test_a_matcher_is_that_of_inliers_alone_or_in_a_chain() -> None:
    assert rerank_options("inliers", matcher="whence-local").scorer_options == {
        "matcher": "whence-local"
    }
    chain = rerank_options("rapid:20,inliers:5", matcher="orb-mnn")
    assert [dict(stage.scorer_options) for stage in chain.stages] == [{}, {"matcher": "orb-mnn"}]
    with pytest.raises(BadOption, match="that of inliers"):
        rerank_options("geowarp", matcher="whence-local")
    with pytest.raises(UnknownName, match="whence-local"):
        rerank_options("inliers", matcher="whence-locl")


def test_the_shipped_features_have_a_calibration_with_the_usual_model() -> None:
    options = RerankOptions(scorer_options={"matcher": "whence-local"})
    prepared = PreparedPhotos.for_options(options, Photos.of([]))
    key = key_of("whence-lite0-words-960.v1", prepared)
    assert find_calibration(key).key == key


def test_a_second_look_by_the_shipped_features_is_calibrated_for_any_model() -> None:
    options = second_options("whence-local", RerankOptions())
    assert options == RerankOptions("whence-local", NUM_AGAIN)
    key = key_of("any.v1", PreparedPhotos.for_options(options, Photos.of([])))
    found = find_calibration(key)
    assert (found.key.descriptor, found.key.scorer) == (ANY_DESCRIPTOR, "whence-local.v1")
    assert min(found.min_confidence, found.min_confidence_without_points) > 0.9
