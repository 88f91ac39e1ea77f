"""Cards of the Deep Visual Geo-localization Benchmark's zoo, of GeoWarp's baselines, of SeqVLAD's
frames, of landmark models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from whence.cards import ModelCard, Origin, Preprocessing

_BENCHMARK = (
    "Berton, Mereu, Trivigno, Masone, Csurka, Sattler, Caputo: Deep visual geo-localization "
    "benchmark, CVPR 2022"
)
_SETS = {"pitts30k": "Pitts30k (Google Street View)", "msls": "MSLS (Mapillary)"}
_PIXELS = Preprocessing(size_px=(480, 640), interpolation="bilinear")


@dataclass(frozen=True, slots=True)
class _Row:
    """One network of the zoo, and the Google Drive ids of its weights; "" where there is no usable
    one."""

    method: str
    backbone: str
    dim: int
    pitts30k: str
    msls: str


_ROWS = (
    _Row(
        "gem",
        "vgg16",
        512,
        "1-e9v_mynIX5XBsdtN_mG9tz5-nA5PWiq",
        "1GqgO-qG-WNJXWty43KgvDtW0OpG0Wrq-",
    ),
    _Row(
        "gem",
        "resnet18conv4",
        256,
        "1R66NYeLlxBIqLviUVL9XPZkrtmyMn_tU",
        "1IH0d_ME2kU3pagsKhx5ZfRfyWriErajn",
    ),
    _Row(
        "gem",
        "resnet50conv4",
        1024,
        "1esgXzRFvDFHrMnwwR3GlTnErXjFNrYV7",
        "1uuIYJN4N7lQqqsN32pbZwjhz5Xvv3zr-",
    ),
    _Row(
        "gem",
        "resnet101conv4",
        1024,
        "1Sd-sezmbzOGbZcy3eqRnWH07eoJ7CM0X",
        "1Iondvd8P3vb3piHFTA-RUgTFpqh0I31M",
    ),
    _Row("cls", "vit_b16_224", 768, "", "1mPiIqFKnW1HWtXqKJhLLmIgMWoV14auG"),
    _Row(
        "netvlad",
        "vgg16",
        32768,
        "14s7OZor6wrlGBKeXr0vKbPfTzlW9preM",
        "1dwai3uNudjvns58JIyaf5CBRg4ojcWIW",
    ),
    _Row(
        "netvlad",
        "resnet18conv4",
        16384,
        "1KFwonDQYdvzTAIILsOMjmLRUR76jXXvB",
        "1_Ozq2TdvwLAJUwy7YH9l69GsfOU-MlFZ",
    ),
    _Row(
        "netvlad",
        "resnet50conv4",
        65536,
        "1KL8HoAApOjJFETin7Q7u7IcsOvroKlSj",
        "1krf0A6CeW8GqLqHWZ7dlSNJ9aTJ4dotF",
    ),
    _Row(
        "netvlad",
        "resnet101conv4",
        65536,
        "1064kDJ0LPyWoU7J4bMvAa0lTNEhAEi8v",
        "1rtPfsgfJ2Zoxs5uu7Ph1_qc7q-hIxJek",
    ),
    _Row(
        "netvlad",
        "cct384",
        24576,
        "1Rx0oG4PG9bEraIg4y7e6Z24Q6b_TGr5u",
        "1wDZ6XRVYz6bcGe_p3Iiz2NfIe9MmZZMN",
    ),
    _Row("gemfc", "resnet50conv4", 2048, "", "1oSf11wAxaoEbjLnjfX0EWZ65dgccwdDD"),
    _Row(
        "gemfc",
        "resnet50conv4",
        65536,
        "19GjodUuAGKpac6WhIcfuy3tiPV1J-ikn",
        "1OGwt651loL2vXnQYyABqitL39IEiXhag",
    ),
    _Row(
        "crn",
        "resnet50conv4",
        65536,
        "1mLOkILfIf8Wegi3tva9390TRIbWDxRor",
        "1KJzXwCsbyT0uNDl925H2J0QKXhKaeEgW",
    ),
)
_SUMMARIES = {
    "gem": "generalised mean",
    "gemfc": "generalised mean and a linear layer",
    "netvlad": "NetVLAD",
    "crn": "NetVLAD with contextual reweighting",
    "cls": "the class token",
}
_SIZES = {"vit_b16_224": (224, 224), "cct384": (384, 384)}
_PARTIAL_MINING = (("gem", "resnet18conv4"), ("gem", "resnet50conv4"), ("netvlad", "resnet18conv4"))
"""The published files trained on Pitts30k with partial mining; the others had full mining."""


def _zoo() -> Iterator[ModelCard]:
    for row in _ROWS:
        for dataset, drive_id in (("pitts30k", row.pitts30k), ("msls", row.msls)):
            name = f"{row.method}-{row.backbone}-{row.dim}-{dataset}"
            no_id = row.method == "gemfc" and not drive_id
            if not drive_id and not no_id:
                continue
            file = f"{name}.pth"
            missing = (
                "a file of the benchmark's authors; the link they published leads to another model"
            )
            partial = dataset == "msls" or (row.method, row.backbone) in _PARTIAL_MINING
            yield ModelCard(
                name=name,
                summary=f"The benchmark's {row.backbone} with {_SUMMARIES[row.method]}",
                dim=row.dim,
                preprocessing=Preprocessing(size_px=_SIZES[row.backbone], interpolation="bilinear")
                if row.backbone in _SIZES
                else _PIXELS,
                licence="MIT",
                weights="the authors' cloud drive",
                training_data=f"{_SETS[dataset]}, {'partial' if partial else 'full'} mining",
                citation=_BENCHMARK,
                weights_licence="unknown",
                origins=(
                    Origin("drive", drive_id, file)
                    if drive_id
                    else Origin("manual", missing, file),
                ),
                backbone=row.backbone,
                backbone_options={"num_blocks": 8} if row.backbone == "cct384" else {},
                aggregator="gem-fc" if row.method == "gemfc" else row.method,
                aggregator_options={"dim": row.dim} if row.method == "gemfc" else {},
                keys="benchmark",
                is_unit_length=row.method not in ("gem", "cls"),
            )


def _geowarp() -> Iterator[ModelCard]:
    channels = {"alexnet": 256, "vgg16": 512, "resnet50": 1024}
    for theirs, width in channels.items():
        for method in ("gem", "netvlad"):
            backbone = "resnet50conv4" if theirs == "resnet50" else theirs
            dim = 64 * width if method == "netvlad" else width
            yield ModelCard(
                name=f"{method}-{backbone}-{dim}-geowarp",
                summary=(
                    f"GeoWarp's retrieval baseline: {theirs} with {_SUMMARIES[method]}; its "
                    "backbone serves the warping too"
                ),
                dim=dim,
                preprocessing=Preprocessing(short_side_px=480, interpolation="bilinear"),
                licence="MIT",
                weights=(
                    f"the authors' cloud drive, pretrained_baselines/{theirs}_{method}.pth in one "
                    "archive"
                ),
                training_data=_SETS["pitts30k"],
                citation="Berton, Masone, Paolicelli, Caputo: "
                "Viewpoint invariant dense matching for visual geolocalization, ICCV 2021",
                weights_licence="unknown",
                origins=(
                    Origin(
                        "drive",
                        "1WjfQFS_13uvg_eyefNJWVIKbvy9tSPR-",
                        f"geowarp_{theirs}_{method}.pth",
                        source_file=f"pretrained_baselines/{theirs}_{method}.pth",
                        archive="geowarp_pretrained_baselines.archive",
                    ),
                ),
                backbone=backbone,
                aggregator=method,
                keys="geowarp",
                is_unit_length=method != "gem",
            )


def _seqvlad() -> Iterator[ModelCard]:
    yield ModelCard(
        name="seqvlad-cct384-24576",
        summary=(
            "SeqVLAD: NetVLAD over all tokens of a sequence's frames; of one photo it is NetVLAD"
        ),
        dim=24576,
        preprocessing=Preprocessing(size_px=(384, 384), interpolation="bilinear"),
        licence="MIT",
        weights="the authors' cloud drive",
        training_data=_SETS["msls"],
        citation="Mereu, Trivigno, Berton, Masone, Caputo: Learning sequential descriptors for "
        "sequence-based visual place recognition, RA-L 2022",
        weights_licence="unknown",
        origins=(Origin("drive", "16n6CL2t-asQ_tf8x4ZyJT_Y4UQQedsxh", "seqvlad_cct384_msls.pth"),),
        backbone="cct384",
        backbone_options={"num_blocks": 8},
        aggregator="netvlad",
        sequence="seqvlad",
        sequence_length=5,
        keys="seqvlad",
    )


_CMP = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks"
_RADENOVIC = {
    "sfm": {50: "97bf910", 101: "a155e54", 152: "f39cada"},
    "gldv1": {50: "83fdc30", 101: "a4d43db", 152: "21278d5"},
}
_RADENOVIC_FILES = {
    "sfm": (
        "retrieval-SfM-120k/rSfM120k-tl-resnet{}-gem-w-{}.pth",
        "retrieval-SfM-120k (landmarks)",
    ),
    "gldv1": ("gl18/gl18-tl-resnet{}-gem-w-{}.pth", "Google Landmarks 2018"),
}
_NAVER_IDS = {
    50: ("1oPtE_go9tnsiDLkWjN4NMpKjh-_md1G5", "Resnet50-AP-GeM.pt"),
    101: ("1UWJGDuHtzaQdFhSMojoYVQjmCXhIwVvy", "Resnet-101-AP-GeM.pt"),
}


def _landmarks() -> Iterator[ModelCard]:
    for dataset, tags in _RADENOVIC.items():
        pattern, data = _RADENOVIC_FILES[dataset]
        for depth, tag in tags.items():
            path = pattern.format(depth, tag)
            yield ModelCard(
                name=f"radenovic-resnet{depth}-2048-{dataset}",
                summary=(
                    "Generalised mean with learned whitening, for landmarks; the benchmark's "
                    "off-the-shelf model"
                ),
                dim=2048,
                preprocessing=Preprocessing(long_side_px=1024, interpolation="bilinear"),
                licence="unknown",
                weights="the authors' server",
                training_data=data,
                citation=(
                    "Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no human "
                    "annotation, PAMI 2019"
                ),
                weights_licence="unknown",
                origins=(Origin("url", f"{_CMP}/{path}", path.rpartition("/")[2]),),
                backbone=f"resnet{depth}conv5",
                aggregator="gem-fc",
                aggregator_options={"dim": 2048, "l2": "after_pool"},
                keys="landmark",
            )
    for depth, (drive_id, file) in _NAVER_IDS.items():
        yield ModelCard(
            name=f"apgem-resnet{depth}-2048",
            summary=(
                "AP-GeM: trained for average precision on landmarks; without the projection its "
                "authors apply afterwards"
            ),
            dim=2048,
            preprocessing=Preprocessing(long_side_px=1024, interpolation="bilinear"),
            licence="unknown",
            weights=(
                f"the authors' cloud drive, {file} in an archive; objects beside the weights are "
                "passed over"
            ),
            training_data="Landmarks-clean",
            citation="Revaud, Almazan, Rezende, de Souza: Learning "
            "with average precision, training image retrieval with a listwise loss, ICCV 2019",
            weights_licence="unknown",
            origins=(
                Origin(
                    "drive",
                    drive_id,
                    file,
                    source_file=file,
                    archive=f"{file.removesuffix('.pt')}.zip",
                ),
            ),
            backbone=f"resnet{depth}conv5",
            aggregator="gem-fc",
            aggregator_options={"dim": 2048, "l2": "none"},
            keys="landmark",
        )


BENCHMARK_CARDS: tuple[ModelCard, ...] = (*_zoo(), *_geowarp(), *_seqvlad(), *_landmarks())
