"""Losses of CosPlace, EigenPlaces, MegaLoc's kin, EarthLoc and SeqVLAD: golden values of the
authors' code."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor

from fills import fill, image_of, squares
from whence.models.aggregators import make_aggregator
from whence.models.backbones.base import Features
from whence.training.losses.by_label import make_loss
from whence.training.losses.tuples import sare_ind, sare_joint, triplet_sum
from whence.training.options.places import LossOptions


@pytest.mark.parametrize(("scale", "expected"), [(30.0, 19.37136), (100.0, 63.75355)])
def test_cosplaces_and_eigenplaces_classifier(scale: float, expected: float) -> None:
    head = make_aggregator("cosplace", 16, options={"dim": 8})
    fill(head, ["pool.p", "fc.weight", "fc.bias"])
    with torch.no_grad():
        descriptors = head(Features(image_of((2, 16, 5, 7))))
        loss = make_loss(
            LossOptions("cosface", {"scale": scale, "margin": 0.4}), num_classes=5, dim=8
        )
        loss.loss.W.copy_(squares((5, 8), 0).T)
        assert float(loss(descriptors, torch.tensor([3, 1]))) == pytest.approx(
            expected, abs=scale * 1e-4
        )
        logits = loss.loss.get_logits(descriptors)
    if scale == 30:
        # As printed, the margin is taken off at the label.
        printed = torch.tensor(
            [
                [5.99476, -0.33458, 0.93114, -11.35834 + 12, 7.02677],
                [6.93133, -11.37647 + 12, 1.74040, 1.86457, 8.47937],
            ]
        )
        assert torch.allclose(logits, printed, atol=1e-3)


def test_multi_similarity_with_its_miner() -> None:
    descriptors, labels = image_of((8, 6)), torch.arange(8) // 2
    loss = make_loss(of_mined_pairs(), num_classes=4, dim=6)
    anchors, positives, other_anchors, negatives = loss.miner(descriptors, labels)
    assert (len(positives), len(negatives)) == (8, 28)
    assert len(anchors) == 8
    assert len(other_anchors) == 28
    assert float(loss(descriptors, labels)) == pytest.approx(1.282725, abs=2e-4)


def test_earthlocs_loss() -> None:
    descriptors = torch.nn.functional.normalize(image_of((12, 6)), dim=1)
    labels = torch.arange(12) // 4
    loss = make_loss(of_mined_pairs(), num_classes=3, dim=6)
    anchors, positives, other_anchors, negatives = loss.miner(descriptors, labels)
    assert (len(positives), len(negatives)) == (33, 75)
    assert float(loss(descriptors, labels)) == pytest.approx(2.005688, abs=1e-4)
    # Where two places overlap, pairs of them are neither positive nor negative.
    is_apart = (labels[other_anchors] == 2) != (labels[negatives] == 2)
    assert int(is_apart.sum()) == 48
    kept = (anchors, positives, other_anchors[is_apart], negatives[is_apart])
    assert float(loss.loss(descriptors, labels, kept)) == pytest.approx(1.932756, abs=1e-4)


def of_mined_pairs() -> LossOptions:
    options = {"alpha": 1, "beta": 50, "base": 0.0}
    return LossOptions(
        "multi_similarity", options, miner="multi_similarity", miner_options={"epsilon": 0.1}
    )


def test_seqvlads_triplets() -> None:
    def wave(function: object, rows: int, factor: float = 1.0) -> Tensor:
        return function(factor * (torch.arange(4.0 * rows, dtype=torch.float64) + 1)).reshape(
            rows, 4
        )  # type: ignore[operator]

    query, positive, negatives = (
        wave(torch.sin, 1),
        wave(torch.cos, 1),
        wave(torch.sin, 2, 3.0)[None],
    )
    assert float((query - positive).norm()) == pytest.approx(1.771318, abs=1e-5)
    assert (query - negatives[0]).norm(dim=1).tolist() == pytest.approx(
        [1.423191, 1.816316], abs=1e-5
    )
    assert float(triplet_sum(query, positive, negatives)) == pytest.approx(0.251564, abs=1e-5)
    assert 2 * float(triplet_sum(query, positive, negatives)) == pytest.approx(0.503129, abs=1e-5)
    assert 2 * float(sare_joint(query, positive, negatives)) == pytest.approx(1.587525, abs=1e-5)
    assert float(sare_ind(query, positive, negatives[:, :1])) == pytest.approx(1.396420, abs=1e-5)
