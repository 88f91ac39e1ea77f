"""`train`: the one door into a training; and `make_task`, for those who own the loop themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whence.errors import BadOption, MissingExtra
from whence.registry import get_entry
from whence.training.datasets import Dataset, Source, as_datasets, choose
from whence.training.options.kinds import BranchOptions
from whence.training.recipe import Recipe, size_px
from whence.training.record import claim_run

if TYPE_CHECKING:
    from whence.training.loop import TrainSummary
    from whence.training.task import Branch, Setup, Task

Data = Source | Dataset | Mapping[str, Source | Dataset]


def train(
    recipe: Recipe,
    data: Data,
    *,
    out: str | Path,
    validation: Source | Dataset | None = None,
    split: str = "",
    pixels_folder: str | Path | None = None,
    is_resumed: bool = False,
    show_progress: bool | None = None,
) -> TrainSummary:
    """A summary of a training by the recipe in the folder `out`: recipe.json, log.jsonl,
    checkpoints/, best.safetensors, final.safetensors.

    `data` is a folder or what is open already, or several of them by name, for recipes whose
    branches learn from different ones; `validation` is the set that the best weights are chosen on.
    `split` is that of folders that hold several. Photos are kept decoded in `pixels_folder`, by
    default beside `out`. `is_resumed` goes on from the last checkpoint, or begins where there is
    none. Raises `BadOption`, `UnknownName`, `InputError`, `NoPhotos`, and `MissingExtra` where
    torch is not there.
    """
    _require_torch()
    from whence.training.checkpoints import newest_checkpoint
    from whence.training.loop import Run
    from whence.training.step import Step

    out = Path(out)
    pixels = Path(pixels_folder) if pixels_folder is not None else out.resolve().parent / "pixels"
    task = make_task(
        recipe,
        data,
        validation=validation,
        split=split,
        pixels_folder=pixels,
        out=out,
        show_progress=show_progress,
    )
    step = Step(task, options=recipe.loop)
    is_begun = newest_checkpoint(out / "checkpoints") is not None
    step.open(
        first=lambda: claim_run(out, recipe, data=task.data, is_resumed=is_resumed),
        is_begun=is_begun,
    )
    run = Run(step, recipe=recipe.name, out=out, show_progress=show_progress)
    if is_resumed:
        run.load()
    return run.run()


def make_task(
    recipe: Recipe,
    data: Data,
    *,
    validation: Source | Dataset | None = None,
    split: str = "",
    pixels_folder: str | Path,
    out: Path | None = None,
    show_progress: bool | None = None,
) -> Task:
    """The task that the recipe makes of the data: the learner, its branches, the probe where there
    is a validation. Nothing is decoded yet.

    Raises as `train`.
    """
    _require_torch()
    from whence.training.step import DTYPES, make_accelerator
    from whence.training.task import Optimized, Setup, Share, Task

    accelerator = make_accelerator(recipe.loop.precision)
    share = Share(accelerator.process_index, accelerator.num_processes)
    entry, seen = get_entry("learner", recipe.learner.kind), size_px(recipe)
    learner = entry.load()(
        recipe.learner,
        recipe=recipe.name,
        seed=recipe.loop.seed,
        size_px=seen,
        device=accelerator.device,
    )
    datasets = as_datasets(data, split=split, show_progress=show_progress)

    def setup(dataset: Dataset, seed: int) -> Setup:
        return Setup(
            learner=learner,
            data=dataset,
            seed=seed,
            pixels_folder=Path(pixels_folder),
            folder=out,
            share=share,
            device=accelerator.device,
            dtype=DTYPES[recipe.loop.precision],
            show_progress=show_progress if share.rank == 0 else False,
            size_px=seen,
        )

    branches: list[Branch] = []
    for options, seed in _learning(recipe):
        dataset = choose(datasets, name=options.dataset, branch=options.name or options.kind)
        branches.append(get_entry("branch", options.kind).load()(options, setup(dataset, seed)))
    if recipe.loop.losses == "one":
        _require_one_loss(recipe, branches)
    probe = None
    if validation is not None:
        asked = (
            validation
            if isinstance(validation, Dataset)
            else Dataset(validation, show_progress=show_progress)
        )
        probe = get_entry("probe", recipe.validate_on.kind).load()(
            recipe.validate_on, setup(asked, recipe.loop.seed)
        )
    losses = tuple((branch.loss, branch.loss_lr) for branch in branches)
    opponents = (
        (branch.opponent, branch.opponent_optimizer)
        for branch in branches
        if branch.opponent is not None
    )
    return Task(
        learner=learner.module,
        branches=tuple(branches),
        probe=probe,
        optimizers=(
            Optimized(learner.module, losses, recipe.optimizer, recipe.schedule),
            *(Optimized(opponent, (), options, recipe.schedule) for opponent, options in opponents),
        ),
        card=learner.card,
        data={**_merged(branches), **learner.describe_data()},
    )


def _require_torch() -> None:
    try:
        import whence.training.loop
        import whence.training.losses.by_label  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None


def _learning(recipe: Recipe) -> list[tuple[BranchOptions, int]]:
    """The branches that learn, and their seeds: the recipe's, another for each further branch of
    one kind. Raises `BadOption`."""
    learning = [options for options in recipe.branches if not options.is_idle]
    if not learning:
        raise BadOption("no branch has a loss of a weight above 0: nothing would be learned")
    names = Counter(options.name or options.kind for options in learning)
    if names.most_common(1)[0][1] > 1:
        raise BadOption(
            f"two branches are called {names.most_common(1)[0][0]!r}; give them names, as "
            "branches.1.name=other"
        )
    found, before = [], Counter[str]()
    for options in learning:
        found.append((options, recipe.loop.seed + (before[options.kind] << 24)))
        before[options.kind] += 1
    return found


def _require_one_loss(recipe: Recipe, branches: list[Branch]) -> None:
    """Raises `BadOption` where branches cannot share a loss."""
    without = [branch.name for branch in branches if not branch.has_pairs]
    if without:
        raise BadOption(
            f"the branch {without[0]} has no loss over pairs that others could share; leave "
            "loop.losses out"
        )
    losses = [getattr(options, "loss", None) for options, _ in _learning(recipe)]
    if any(loss != losses[0] for loss in losses):
        raise BadOption(
            "branches with different losses cannot share one; leave loop.losses out, or give all "
            "of them one loss"
        )


def _merged(branches: list[Branch]) -> dict[str, Any]:
    """What the branches say of their data: as one where they say the same, else by their names."""
    said = {branch.name: branch.describe_data() for branch in branches}
    first = next(iter(said.values()))
    return first if all(one == first for one in said.values()) else said
