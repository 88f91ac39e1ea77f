"""Cards of the project's own networks. Their weights come with Whence, under its licence, in the
folder `weights`."""

from __future__ import annotations

from whence.cards import ModelCard, Origin, Preprocessing

OWN_CARDS = (
    ModelCard(
        name="whence-resnet18conv4-gem-256",
        summary=(
            "The project's own small network: comes with Whence, needs no download, trained on "
            "rendered cities alone"
        ),
        dim=256,
        preprocessing=Preprocessing(size_px=(144, 192), interpolation="bilinear"),
        licence="MIT",
        weights="random weights, seed 0, trained by `whence train whence-resnet18conv4-gem-256 "
        "--dataset FOLDER/train/train --val FOLDER/val --val-split val --out RUN`; the step best "
        "on the validation city, written by `whence convert RUN/best.safetensors --as "
        "whence-resnet18conv4-gem-256 --half --out FILE`",
        training_data=(
            "six rendered cities of 3,000 photos, `python tools/render_training_cities.py "
            "FOLDER`; no photo of a camera"
        ),
        citation="He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016; "
        "Radenovic, Tolias, Chum: "
        "Fine-tuning CNN image retrieval with no human annotation, PAMI 2019",
        weights_licence="MIT",
        origins=(Origin("packaged", "whence.models", "whence-resnet18conv4-gem-256.safetensors"),),
        backbone="resnet18conv4",
        aggregator="gem",
        aggregator_options={"l2": "none"},
        keys="whence",
        is_unit_length=False,
        figures="`python benchmarks/descriptors.py --seed 0 --cities 3`, retrieval alone. Three "
        "rendered test cities, 1,500 queries, within 25 m: recall@1 61.9 % [59-64], @5 79.5, @10 "
        "86.3, @20 91.0; by night 61.0, rotated 48.1, in snow 48.4. Real: Stockholm 17 of 25 "
        "queries right at rank 1, Gardens Point 164 of 200. Validation city: 57.4 % at this size; "
        "52.8 at the 128x96 of training, 55.0 at 160x120, 55.6 at 224x168",
        limits="it has never seen a photo of a camera, and real "
        "photos with detail are better placed by rootsift-vlad (Stockholm 23 of 25); views turned "
        "by 30 to 41 degrees from the nearest photo are right at rank 1 in 26 % only; photos are "
        "squashed to 4:3",
    ),
)
