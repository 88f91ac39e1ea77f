"""The branch of sequences and its probe: windows as pixels, what is mined and learned from them,
freezing, and the joint step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from training_samples import draw, given
from whence.data.drives import Frames, SequenceSet
from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.models.cards.text import card_from_text, card_to_text
from whence.recipes import get_recipe
from whence.training.branches.windowed import SequenceBranch, make_window_tuples
from whence.training.learners import NetworkLearner, make_network, network_card
from whence.training.losses.tuples import tuple_loss
from whence.training.options.augment import AugmentOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions, SequencePoolOptions
from whence.training.options.sequences import SequenceRecallOptions, SequencesOptions
from whence.training.options.tuples import MiningOptions, WordOptions
from whence.training.sequence_probe import SequenceProbe
from whence.training.task import BatchPlace, Share
from whence.types import Photo, PlanePoint
from writers_of_frames import write_drives

SEEN = AugmentOptions(width=32, height=24)
MINING = MiningOptions(num_queries=4, num_negatives=2, num_candidates=8, positive_m=6, excluded_m=8)
POOLED = NetworkOptions(backbone="resnet18conv2", sequence=SequencePoolOptions("seqgem", 3))


def learner_of(options: NetworkOptions) -> NetworkLearner:
    return NetworkLearner(
        options, recipe="test", seed=0, size_px=(32, 24), device=torch.device("cpu")
    )


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> SequenceSet:
    """Two drives of a database, 5 m a frame, one with a hole, and one of queries beside the
    first."""
    return write_drives(tmp_path_factory.mktemp("drives"))


def opened(
    drives: SequenceSet, tmp_path: Path, options: NetworkOptions = POOLED, **changes: Any
) -> SequenceBranch:
    branch = SequenceBranch(
        SequencesOptions(mining=MINING, batch_queries=2, augment=SEEN, **changes),
        given(drives, tmp_path, learner=learner_of(options)),
    )
    branch.open()
    return branch


def test_windows_are_cut_mined_and_learned_from(drives: SequenceSet, tmp_path: Path) -> None:
    branch = opened(drives, tmp_path)
    tuples = make_window_tuples(drives, length=3, options=MINING)
    assert branch.describe_data() == {
        "num_database": 15,
        "num_queries": 8,
        "num_windows": len(tuples.windows.database),
        "num_query_windows": 6,
        "num_queries_with_positives": len(tuples.queries),
    }
    network = branch.setup.learner.module.eval()

    class AsItIs:
        share = Share()

        def __call__(self, rows: np.ndarray, read: Any, *, batch_size: int) -> torch.Tensor:
            from whence.models.networks import describe_pixels, describing

            return describe_pixels(describing(network), rows, batch_size=batch_size, read=read)

        def broadcast(self, values: np.ndarray) -> np.ndarray:
            return values

    branch.refresh(0, AsItIs())  # type: ignore[arg-type]
    assert branch.mined.shape == (4, 4)
    for query, positive, *negatives in branch.mined.tolist():
        place = int(np.flatnonzero(tuples.queries == query)[0])
        assert positive in tuples.positives.of(place)
        assert not set(negatives) & set(tuples.excluded.of(place).tolist())
    read = branch.read(BatchPlace(0, 0), Share())
    assert read.num_photos == 2 * 4 * 3
    content = branch.change(read.content, draw())
    assert content.shape == (8, 3, 3, 24, 32)
    window = tuples.windows.queries[branch.mined[0, 0]]
    assert np.array_equal(
        read.content.queries.photos[:3].numpy(), branch.pixels.frames[15 + window]
    )
    found = branch.learn(network, content, draw()).total
    with torch.no_grad():
        every = network(content)
        slow = tuple_loss(
            "triplet", every[:2], every[[2, 5]], every[[3, 4, 6, 7]].reshape(2, 2, -1), margin=0.1
        )
    assert found.item() == pytest.approx(slow.item(), abs=1e-6)


def test_words_begin_from_first_frames_and_frozen_parts_stay(
    drives: SequenceSet, tmp_path: Path
) -> None:
    options = replace(
        POOLED,
        aggregator=AggregatorOptions("netvlad", {"num_words": 2}),
        sequence=SequencePoolOptions("seqvlad", 3),
    )
    branch = opened(drives, tmp_path, options, words=WordOptions(num_photos=6, num_locations=20))
    network = branch.setup.learner.module
    before = network.aggregator.centroids.detach().clone()
    branch.start(network, torch.device("cpu"))
    assert not torch.equal(before, network.aggregator.centroids)
    assert np.array_equal(
        branch.pixels.first_frames(np.array([0])), branch.pixels[np.array([0])][:, 0]
    )
    frozen = make_network(replace(options, learning="as published", backbone="resnet18conv4"))
    learning = {name.split(".")[1] for name, p in frozen.named_parameters() if p.requires_grad}
    assert learning == {"layer3", "centroids", "conv"}
    pool_alone = make_network(replace(POOLED, learning="sequence"))
    assert [name for name, p in pool_alone.named_parameters() if p.requires_grad] == ["sequence.p"]
    with pytest.raises(BadOption, match="nothing would learn"):
        make_network(replace(POOLED, learning="sequence", sequence=SequencePoolOptions("mean", 3)))
    with torch.device("meta"):
        cct = make_network(
            replace(
                get_recipe("seqvlad-cct384").learner,
                aggregator=AggregatorOptions("netvlad", {"num_words": 2}),
            )
        )
    assert (
        sum(p.numel() for p in cct.backbone.parameters() if p.requires_grad) == 8_917_248 - 49_152
    )


def test_cards_and_starts_keep_the_pool(tmp_path: Path) -> None:
    network = make_network(POOLED)
    card = network_card(POOLED, network, recipe="jist", size_px=(32, 24))
    assert (card.sequence, card.sequence_length) == ("seqgem", 3)
    assert card_from_text(card_to_text(card)) == card
    from safetensors.torch import save_file

    alone = {
        name: value.contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("sequence.")
    }
    save_file(alone, tmp_path / "frames.safetensors")
    begun = make_network(replace(POOLED, start_from=str(tmp_path / "frames.safetensors")), seed=5)
    assert all(torch.equal(begun.state_dict()[name], value) for name, value in alone.items())
    assert float(begun.state_dict()["sequence.p"]) == 3.0


def test_what_cannot_be_learned_from_is_said(drives: SequenceSet, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"sequence\.name"):
        opened(drives, tmp_path, NetworkOptions(backbone="resnet18conv2"))
    with pytest.raises(BadOption, match="num_views"):
        SequenceBranch(
            SequencesOptions(mining=MINING, augment=replace(SEEN, num_views=2)),
            given(drives, tmp_path, learner=learner_of(POOLED)),
        )
    with pytest.raises(NoPhotos, match="15 frames hold no 12"):
        opened(drives, tmp_path, replace(POOLED, sequence=SequencePoolOptions("seqgem", 12)))
    far = replace(drives, queries=replace_east(drives.queries, 1e5))
    with pytest.raises(NoPhotos, match="no query has"):
        opened(far, tmp_path)


def replace_east(frames: Frames, shift_m: float) -> Frames:
    return replace(frames, photos=frames.photos.with_columns(east_m=frames.photos.east_m + shift_m))


def test_the_probe_counts_windows_that_have_positives(drives: SequenceSet, tmp_path: Path) -> None:
    learner = learner_of(replace(POOLED, sequence=SequencePoolOptions("mean", 3)))
    probe = SequenceProbe(
        SequenceRecallOptions(n=1, radius_m=6, width=32, height=24),
        given(drives, tmp_path, learner=learner),
    )
    probe.open()
    # The same photos on both sides: every window that has a positive finds itself.
    own = SequenceProbe(
        SequenceRecallOptions(n=1, radius_m=6, width=32, height=24),
        given(replace(drives, queries=drives.database), tmp_path, learner=learner),
    )
    own.open()
    assert own.measure(learner.module) == {"recall": 1.0}
    assert 0 <= probe.measure(learner.module)["recall"] <= 1
    assert learner.module.training, "as it was"


def test_jist_keeps_its_published_constants() -> None:
    recipe = get_recipe("jist-resnet18-512")
    sequences, classes = recipe.branches
    assert (sequences.weight, classes.weight) == (10_000.0, 100.0)
    assert recipe.learner.start_from == "cosplace-resnet18-512"  # type: ignore[union-attr]
    assert (sequences.mining.num_candidates, sequences.mining.num_negatives) == (3000, 5)  # type: ignore[union-attr]
    assert (classes.batch_size, classes.optimizer.lr) == (64, 0.01)  # type: ignore[union-attr]
    assert recipe.loop.num_steps == 5 * 2500


def test_photos_alone_are_no_drives(tmp_path: Path) -> None:
    lone = Photos.of([Photo("a.jpg", plane=PlanePoint(0, 0))])
    with pytest.raises(NoPhotos, match="without an order"):
        SequenceBranch(
            SequencesOptions(mining=MINING, augment=SEEN),
            given(lone, tmp_path, learner=learner_of(POOLED)),
        )
