"""The condition of an installation and of a database: what is there, and whether it works."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from pathlib import Path

from whence.data.fields import as_size
from whence.errors import DISTRIBUTION, WhenceError
from whence.runtime import num_cores
from whence.settings import DEFAULT_MODEL, load_settings

_CORE = ("numpy", "pillow", "opencv-python-headless", "faiss-cpu", "pyproj", "typer", "rich")
_EXTRAS = {
    "fast": ("simplejpeg", "fast JPEG decoding"),
    "heic": ("pillow-heif", "HEIC photos"),
    "raw": ("rawpy", "raw photos"),
    "earth": ("rasterio", "georeferenced rasters"),
    "mesh": ("trimesh", "city meshes"),
    "torch": ("torch", "networks"),
}
_OWN_SUMMARY = "Where was this photo taken?"
Finding = tuple[str, bool | None, str]
"""What was looked at; whether it is fine (None: optional and absent); details."""


def examine(database: str | None = None) -> list[Finding]:
    """Findings on the machine, the packages, the main path in miniature, and a database: the one
    named, else that of the settings if it is there."""
    return [*_machine(), *_packages(), _self_test(), *_database(database)]


def _machine() -> list[Finding]:
    import whence

    version = getattr(whence, "__version__", "unknown")
    free = as_size(shutil.disk_usage(Path.cwd()).free)
    return [
        ("whence", True, f"{version} ({DISTRIBUTION})"),
        (
            "python",
            sys.version_info >= (3, 11),
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        ),
        ("machine", True, f"{num_cores()} cores, {free} free here"),
    ]


def _packages() -> list[Finding]:
    findings: list[Finding] = []
    for name in _CORE:
        try:
            findings.append((name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append((name, False, f"missing: pip install {name}"))
    for extra, (name, purpose) in _EXTRAS.items():
        try:
            findings.append(
                (f"extra {extra}", True, f"{purpose}: {name} {importlib.metadata.version(name)}")
            )
        except importlib.metadata.PackageNotFoundError:
            findings.append(
                (
                    f"extra {extra}",
                    None,
                    f'{purpose}: not installed (pip install "{DISTRIBUTION}[{extra}]")',
                )
            )
    return [*findings, *_clash()]


def _clash() -> list[Finding]:
    """The package index has another project called `whence`; both are imported by that name, so
    only one may be installed."""
    import whence

    fix = f"pip uninstall whence, then pip install --force-reinstall {DISTRIBUTION}"
    findings: list[Finding] = []
    if Path(whence.__file__ or "").parent != Path(__file__).parents[
        1
    ] or "Localizer" not in getattr(whence, "__all__", ()):
        findings.append(
            (
                "import whence",
                False,
                f"another package of this name is imported, {whence.__file__}: {fix}",
            )
        )
    try:
        other = importlib.metadata.metadata("whence")
    except importlib.metadata.PackageNotFoundError:
        return findings
    if (other["Summary"] or "").startswith(_OWN_SUMMARY):
        return [
            *findings,
            (
                "name",
                None,
                f"this project is installed under its old name, whence, too; once: {fix}",
            ),
        ]
    what = (
        f"another project called whence, {other['Version']}, is installed and is imported by the "
        f"same name: {fix}"
    )
    return [*findings, ("another whence", False, what)]


def _self_test() -> Finding:
    """Describe two pictures made here and find one by itself: the main path in miniature."""
    import numpy as np

    from whence.index.flat import FlatIndex
    from whence.models.descriptor import load_model

    try:
        random = np.random.default_rng(0)
        images = [
            np.kron(random.integers(0, 255, (24, 32, 3)), np.ones((10, 10, 1))).astype(np.uint8)
            for _ in range(2)
        ]
        model = load_model(DEFAULT_MODEL)
        model.load_packaged()
        descriptors = model.describe(images)
        found = FlatIndex.over(descriptors).search(descriptors, k=1)
        is_fine = found.ids[:, 0].tolist() == [0, 1]
        return (
            "describe and search",
            is_fine,
            "two made-up pictures find themselves" if is_fine else "they do not find themselves",
        )
    except Exception as error:  # the doctor reports whatever is wrong instead of dying of it
        return ("describe and search", False, f"{type(error).__name__}: {error}")


def _database(name: str | None) -> list[Finding]:
    path = load_settings(flags={"database": name}).database
    if name is None and not Path(path).exists():
        return []
    from whence.index.audit import problems
    from whence.index.store import Store
    from whence.localize.maintain import HOW_TO_GO_ON
    from whence.localize.sources import missing_folders, source_files

    try:
        with Store.open(path) as store:
            found = problems(store)
            detail = (
                f"{store.num_photos} photos, {store.num_descriptors} descriptors of "
                f"{store.card_id}, {as_size(store.size_bytes)}"
            )
            lost = missing_folders(
                store.photos, source_files(store.options.get("sources", []), store.path)
            )
    except WhenceError as error:
        return [(f"database {path}", False, str(error))]
    findings: list[Finding] = [(f"database {path}", not found, "; ".join([detail, *found]))]
    return [*findings, *((f"photos of {path}", False, f"{one}. {HOW_TO_GO_ON}") for one in lost)]
