"""What a training learns from: a folder, or photos that are open already, opened once however many
branches read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from whence.data.clips import Clips, are_clips, read_clips
from whence.data.drives import SequenceSet
from whence.data.formats import EvaluationSet
from whence.data.frame_folders import open_sequences
from whence.data.labels import LabelledSet, read_labelled_set
from whence.data.layouts import MeshPairs, read_mesh_pairs, sf_xl_folder
from whence.data.photos import Photos
from whence.data.placed_files import PlacedFiles, list_of, read_placed_files
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import BadOption, NoPhotos
from whence.evaluation.published import open_set
from whence.types import SkippedPhoto

Source = str | Path | Photos | EvaluationSet | SequenceSet


class Dataset:
    """One data set: all its photos, or its database and its queries."""

    def __init__(
        self,
        source: Source,
        *,
        split: str = "",
        show_progress: bool | None = None,
        report: Callable[[Sequence[SkippedPhoto]], None] | None = None,
    ) -> None:
        """`report` is told which photos were skipped."""
        self.source, self.split, self.show_progress = source, split, show_progress
        self._report = report or (lambda skipped: None)

    @cached_property
    def photos(self) -> Photos:
        """All photos: of a folder, whatever folders it has; of a set, its database. Raises as
        `scan_photos`."""
        if isinstance(self.source, Photos):
            return self.source
        if isinstance(self.source, EvaluationSet):
            return self.source.database
        if isinstance(self.source, SequenceSet):
            return self.source.database.photos
        found = scan_photos(self.source, show_progress=self.show_progress)
        self._report(found.skipped)
        return found

    def folder(self, what: str) -> Path:
        """Where the data lie as files. Raises `BadOption` for photos that are open already; `what`
        says who needs a folder."""
        if not isinstance(self.source, str | Path):
            raise BadOption(
                f"{what} are read from a folder: give its path instead of photos that are open "
                "already"
            )
        return Path(self.source)

    def files(self, *, are_panoramas: bool) -> PlacedFiles:
        """All photos by what their names say, none of them opened where a list of them or SF-XL's
        own folders are there.

        Raises `NoPhotos`, `UnreadableTable`, and as `scan_photos`.
        """
        if isinstance(self.source, str | Path):
            path = Path(self.source)
            if (path / "raw" / "train").is_dir():
                return read_placed_files(
                    sf_xl_folder(path, "panoramas" if are_panoramas else "database")
                )
            if (path / "processed" / "train").is_dir() and not are_panoramas:
                return read_placed_files(sf_xl_folder(path, "processed"))
            if list_of(path).is_file():
                return read_placed_files(path)
        return PlacedFiles.of_photos(self.photos)

    def report(self, skipped: Sequence[SkippedPhoto]) -> None:
        """Say which photos were skipped."""
        self._report(skipped)

    @cached_property
    def set(self) -> EvaluationSet:
        """Database and queries. Raises as `open_set`, and `NoPhotos` for photos that are no set."""
        if isinstance(self.source, Photos):
            raise NoPhotos("these are photos alone; give a set with a database and queries")
        if isinstance(self.source, EvaluationSet):
            return self.source
        if isinstance(self.source, SequenceSet):
            return EvaluationSet(
                self.source.name, self.source.database.photos, self.source.queries.photos
            )
        found = open_set(
            self.source, split=self.split, options=ReadOptions(show_progress=self.show_progress)
        )
        self._report((*found.database.skipped, *found.queries.skipped))
        return found

    @cached_property
    def mesh_pairs(self) -> MeshPairs:
        """Photos and renders of the same views. Raises as `read_mesh_pairs`, and `BadOption` for
        photos that are open already."""
        return read_mesh_pairs(self.folder("pairs of photo and render"), split=self.split)

    def labelled(self, town: str = "") -> LabelledSet:
        """Photos with pictures of classes, of one town or of the first. Raises as
        `read_labelled_set`, and as `folder`."""
        return read_labelled_set(self.folder("photos with pictures of classes"), town=town)

    def rendered_clips(self, split: str) -> Clips | None:
        """Rendered clips of a split; None where the folder holds something else. Raises as
        `read_clips`."""
        if not isinstance(self.source, str | Path) or not are_clips(Path(self.source)):
            return None
        return read_clips(self.source, split=split)

    @cached_property
    def sequences(self) -> SequenceSet:
        """Database and queries as drives. Raises as `open_sequences`, and `NoPhotos` for photos
        that are no drives."""
        if isinstance(self.source, SequenceSet):
            return self.source
        if not isinstance(self.source, str | Path):
            raise NoPhotos(
                "these are photos without an order; give a folder with drives of a database and "
                "of queries"
            )
        found = open_sequences(
            self.source, split=self.split, options=ReadOptions(show_progress=self.show_progress)
        )
        self._report((*found.database.photos.skipped, *found.queries.photos.skipped))
        return found


def as_datasets(
    data: Source | Dataset | Mapping[str, Source | Dataset],
    *,
    split: str,
    show_progress: bool | None,
) -> dict[str, Dataset]:
    """Data sets by name; one that is given alone has the name ""."""
    named = data if isinstance(data, Mapping) else {"": data}
    return {
        name: source
        if isinstance(source, Dataset)
        else Dataset(source, split=split, show_progress=show_progress)
        for name, source in named.items()
    }


def choose(datasets: Mapping[str, Dataset], *, name: str, branch: str) -> Dataset:
    """The data set that a branch asks for, else the only one, else the one of the branch's name.
    Raises `BadOption`."""
    if name and name in datasets:
        return datasets[name]
    if not name and len(datasets) == 1:
        return next(iter(datasets.values()))
    if not name and branch in datasets:
        return datasets[branch]
    known = ", ".join(sorted(filter(None, datasets))) or "one without a name"
    raise BadOption(
        f"the branch {branch} learns from a dataset {name or branch!r}; given: {known}. Give "
        f"--dataset {name or branch}=FOLDER"
    )
