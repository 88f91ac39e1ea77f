"""What trainings are put together from, by name: learners, branches, probes. Data only; no
torch."""

from __future__ import annotations

from whence.cards import Entry

_ROOM = "whence.training"
LEARNERS: dict[str, Entry] = {
    "network": Entry(
        f"{_ROOM}.learners:NetworkLearner", settings=f"{_ROOM}.options.learners:NetworkOptions"
    ),
    "own head": Entry(
        f"{_ROOM}.learners:OwnHeadLearner", settings=f"{_ROOM}.options.learners:OwnHeadOptions"
    ),
    "aligned copy": Entry(
        f"{_ROOM}.learners:AlignedCopyLearner",
        settings=f"{_ROOM}.options.aligned:AlignedCopyOptions",
    ),
    "local features": Entry(
        f"{_ROOM}.local_learner:LocalFeatureLearner",
        settings=f"{_ROOM}.options.local:LocalFeatureOptions",
    ),
    "clip features": Entry(
        f"{_ROOM}.clip_learners:ClipFeaturesLearner",
        settings=f"{_ROOM}.options.clips:ClipFeaturesOptions",
    ),
    "frame tokens": Entry(
        f"{_ROOM}.clip_learners:FrameTokensLearner",
        settings=f"{_ROOM}.options.clips:FrameTokensOptions",
    ),
    "forecasts": Entry(
        f"{_ROOM}.clip_learners:ForecastsLearner",
        settings=f"{_ROOM}.options.clips:ForecastsOptions",
    ),
    "language model": Entry(
        f"{_ROOM}.text_learners:LanguageLearner", settings=f"{_ROOM}.options.texts:LanguageOptions"
    ),
    "compressor": Entry(
        f"{_ROOM}.text_learners:CompressorLearner",
        settings=f"{_ROOM}.options.texts:CompressorOptions",
    ),
    "regressor": Entry(
        f"{_ROOM}.learners:RegressorLearner", settings=f"{_ROOM}.options.learners:RegressorOptions"
    ),
}
BRANCHES: dict[str, Entry] = {
    "places": Entry(
        f"{_ROOM}.branches.placed:PlaceBranch", settings=f"{_ROOM}.options.placed:PlacesOptions"
    ),
    "classes": Entry(
        f"{_ROOM}.branches.classes:ClassBranch", settings=f"{_ROOM}.options.classes:ClassesOptions"
    ),
    "cell views": Entry(
        f"{_ROOM}.branches.cell_views:CellViewBranch",
        settings=f"{_ROOM}.options.classes:CellViewsOptions",
    ),
    "tuples": Entry(
        f"{_ROOM}.branches.mined:TupleBranch", settings=f"{_ROOM}.options.tuples:TuplesOptions"
    ),
    "sequences": Entry(
        f"{_ROOM}.branches.windowed:SequenceBranch",
        settings=f"{_ROOM}.options.sequences:SequencesOptions",
    ),
    "vocabulary": Entry(
        f"{_ROOM}.branches.vocabulary:VocabularyBranch",
        settings=f"{_ROOM}.options.tuples:VocabularyOptions",
    ),
    "distilled": Entry(
        f"{_ROOM}.branches.distilled:DistilledBranch",
        settings=f"{_ROOM}.options.distilled:DistilledOptions",
    ),
    "labelled": Entry(
        f"{_ROOM}.branches.labelled:LabelledBranch",
        settings=f"{_ROOM}.options.labelled:LabelledOptions",
    ),
    "aligned": Entry(
        f"{_ROOM}.branches.aligned:AlignedBranch",
        settings=f"{_ROOM}.options.aligned:AlignedOptions",
    ),
    "tiles": Entry(
        f"{_ROOM}.branches.tiles:TileBranch", settings=f"{_ROOM}.options.tiles:TilesOptions"
    ),
    "photo pairs": Entry(
        f"{_ROOM}.branches.photo_pairs:PhotoPairBranch",
        settings=f"{_ROOM}.options.photo_pairs:PhotoPairsOptions",
    ),
    "taught points": Entry(
        f"{_ROOM}.branches.taught_points:TaughtPointsBranch",
        settings=f"{_ROOM}.options.local:TaughtPointsOptions",
    ),
    "homography pairs": Entry(
        f"{_ROOM}.branches.homography_pairs:HomographyPairsBranch",
        settings=f"{_ROOM}.options.local:HomographyPairsOptions",
    ),
    "clips": Entry(
        f"{_ROOM}.branches.clips:ClipBranch", settings=f"{_ROOM}.options.clips:ClipsOptions"
    ),
    "texts": Entry(
        f"{_ROOM}.branches.texts:TextBranch", settings=f"{_ROOM}.options.texts:TextsOptions"
    ),
    "views": Entry(
        f"{_ROOM}.branches.warps:ViewBranch", settings=f"{_ROOM}.options.warps:ViewsOptions"
    ),
    "pairs": Entry(
        f"{_ROOM}.branches.warps:PairBranch", settings=f"{_ROOM}.options.warps:FoundPairsOptions"
    ),
}
PROBES: dict[str, Entry] = {
    "recall": Entry(
        f"{_ROOM}.probes:RecallProbe", settings=f"{_ROOM}.options.validation:RecallOptions"
    ),
    "sequences": Entry(
        f"{_ROOM}.sequence_probe:SequenceProbe",
        settings=f"{_ROOM}.options.sequences:SequenceRecallOptions",
    ),
    "aligned recall": Entry(
        f"{_ROOM}.probes:AlignedRecallProbe",
        settings=f"{_ROOM}.options.aligned:AlignedRecallOptions",
    ),
    "matched share": Entry(
        f"{_ROOM}.local_learner:MatchedShareProbe",
        settings=f"{_ROOM}.options.local:MatchedShareOptions",
    ),
    "reconstruction": Entry(
        f"{_ROOM}.clip_learners:ReconstructionProbe",
        settings=f"{_ROOM}.options.clips:ReconstructionOptions",
    ),
    "answered": Entry(
        f"{_ROOM}.text_learners:AnsweredProbe", settings=f"{_ROOM}.options.texts:AnsweredOptions"
    ),
    "reranked": Entry(
        f"{_ROOM}.probes:RerankedProbe", settings=f"{_ROOM}.options.validation:RerankedOptions"
    ),
}
