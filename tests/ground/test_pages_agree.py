"""What pages say twice, or that code says too: README and results, settings and code, what comes
with the package."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import pytest

from whence.models.checkpoints.origins import PACKAGED
from whence.settings import Settings

ROOT = Path(__file__).parents[2]
TEXTS = {
    page.name: page.read_text(encoding="utf-8")
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
}
README = " ".join(TEXTS["README.md"].split())
RESULTS = TEXTS["results.md"]
IN_WORDS = {"none": 0, "one": 1, "two": 2, "three": 3}


def row_of(beginning: str, *, text: str = RESULTS) -> list[str]:
    """The cells of the one table row that begins so."""
    rows = [line for line in text.splitlines() if line.startswith(f"| {beginning}")]
    assert len(rows) == 1, f"{beginning}: {len(rows)} rows"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


def numbers_in(pattern: str) -> list[int]:
    """The numbers of the README's one sentence that matches."""
    found = re.findall(pattern, README)
    assert len(found) == 1, f"{pattern!r} stands {len(found)} times in the README"
    groups = found[0] if isinstance(found[0], tuple) else (found[0],)
    return [
        IN_WORDS[group] if group in IN_WORDS else int(group.replace(",", "")) for group in groups
    ]


@pytest.mark.parametrize(
    ("in_readme", "in_results"),
    [
        ("25 Stockholm buildings", "Stockholm buildings, 25 queries"),
        ("Gardens Point thumbnails", "Gardens Point thumbnails, 200 queries"),
        ("a street in Lund", "a street in Lund, 29 photos"),
    ],
)
def test_the_readmes_table_is_that_of_the_results(in_readme: str, in_results: str) -> None:
    shown, measured = row_of(in_readme, text=TEXTS["README.md"]), row_of(in_results)
    num_right, low, high = re.findall(r"\d+", measured[2])[:3]
    num_queries = int(shown[1])
    assert shown[3] == f"{num_right} ({100 * int(num_right) / num_queries:.0f} %)"
    assert shown[4] == f"{low}-{high} %"
    assert str(num_queries) in in_results


def test_what_the_readme_says_of_answers_is_measured() -> None:
    right, *_ = row_of("Stockholm, 25 queries, right at rank 1 after")[1].split()
    assert numbers_in(r"on Stockholm all (\d+) are right after re-ranking") == [int(right)] == [25]
    answered, wrong = (
        int(number) for number in row_of("Stockholm, answered; answered wrongly")[1].split(";")
    )
    assert numbers_in(r"(\d+) are answered and (\w+) of them wrongly") == [answered, wrong]
    unknown = int(row_of("29 photos of Lund asked of the Stockholm database")[1].split()[0])
    assert numbers_in(r"of (\d+) photos of Lund asked of Stockholm all (\d+) stay unknown") == [
        29,
        unknown,
    ]
    located, inside = re.match(r"(\d+); (\d+)", row_of("Lund, leave-one-out: located")[1]).groups()  # type: ignore[union-attr]
    assert numbers_in(r"inside the radius for (\d+) of (\d+)") == [int(inside), int(located)]
    (median,) = re.findall(r"On the Lund street, position error: median ([\d.]+) m", RESULTS)
    assert f"the median error of the position is {median} m" in README


def test_what_the_readme_says_of_geowarp_is_measured() -> None:
    cells = row_of("stromovka, autumn to snow (51)")
    before, matches, after = (round(float(re.match(r"[\d.]+", cells[i])[0])) for i in (1, 2, 5))  # type: ignore[index]
    assert before == matches
    counts = re.search(
        r"retrieval has (\d+) right \((\d+) %\).*?GeoWarp's order (\d+) are \((\d+) %\)",
        " ".join(README.split()),
    )
    assert counts is not None
    shares = [round(100 * int(counts[i]) / 51) for i in (1, 3)]
    assert shares == [before, after] == [int(counts[2]), int(counts[4])]


def variables_in(text: str) -> set[str]:
    return set(re.findall(r"\b_?WHENCE_[A-Z][A-Z_]*[A-Z]\b", text))


def test_every_setting_and_variable_is_on_the_page_of_settings() -> None:
    page = TEXTS["settings.md"]
    named = variables_in(page)
    read = {
        name
        for file in (ROOT / "src").rglob("*.py")
        for name in variables_in(file.read_text(encoding="utf-8"))
    }
    read |= {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"WHENCE_TEST_[A-Z]+", file.read_text(encoding="utf-8"))
    }
    known = {f"WHENCE_{entry.name.upper()}" for entry in fields(Settings)}
    assert read | known <= named, (read | known) - named
    assert named <= read | known | {"_WHENCE_COMPLETE"}, (
        "the page names variables that nothing reads"
    )
    for entry in fields(Settings):
        _, variable, default, what = row_of(f"`{entry.name}`", text=page)
        value = getattr(Settings(), entry.name)
        shown = (
            str(value).lower()
            if isinstance(value, bool)
            else f"{value:,}"
            if isinstance(value, int)
            else value or "none"
        )
        assert variable == f"`WHENCE_{entry.name.upper()}`"
        assert default.strip("`") == shown
        assert what
    for name, text in TEXTS.items():
        assert variables_in(text) <= named, name
    assert "docs/settings.md" in TEXTS["README.md"]


def test_pages_say_which_weights_come_along() -> None:
    names = {file.name for kind in ("safetensors", "onnx") for file in PACKAGED.glob(f"*.{kind}")}
    assert len(names) == 5
    assert "Five files of weights come with Whence" in TEXTS["checkpoints.md"]
    assert all(name in (PACKAGED / "NOTICE.md").read_text(encoding="utf-8") for name in names)


def test_the_page_on_security_says_what_uses_the_network() -> None:
    text = " ".join(TEXTS["SECURITY.md"].split())
    assert "no network access" not in text
    assert "WHENCE_OFFLINE" in text
    assert f"{Settings().max_pixels // 10**6} million pixels" in text
    users = {
        file.relative_to(ROOT / "src" / "whence").as_posix()
        for file in (ROOT / "src").rglob("*.py")
        if re.search(
            (
                r"^\s*(import|from) "
                r"(urllib\.request|http\.client|socket|requests|httpx|huggingface_hub|fsspec)\b"
            ),
            file.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    fetching = {"models/checkpoints/http.py", "models/checkpoints/origins.py"}
    assert users == {
        *fetching,
        "data/elsewhere.py",
        "training/federated/processes.py",
        "server/client.py",
        "server/running.py",
    }
    assert "whence federate" in text
    assert "whence serve" in text
    assert "whence.server.client" in text


def test_contributing_names_targets_and_files_that_are_there() -> None:
    text = TEXTS["CONTRIBUTING.md"]
    targets = set(
        re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets
    for name in re.findall(r"`((?:data|models|evaluation)/[\w*]+\.py)`", text):
        assert list((ROOT / "src" / "whence").glob(name)), name


SOURCE = ROOT / "src" / "whence"
PAGES_ON_CODE = ("architecture.md", "CONTRIBUTING.md", "SECURITY.md", "README.md", "which.md")


def names_nothing(name: str) -> bool:
    """Whether a name in backticks is that of a file, module, or part of one that is not there."""
    rooms = {path.stem for path in SOURCE.iterdir()}
    parts = name.removeprefix("whence.").split(".")
    if re.fullmatch(r"[\w/]+\.py", name):
        return not (ROOT / name).is_file() and not (SOURCE / name).is_file()
    if not re.fullmatch(r"[a-z_]+(\.[A-Za-z_]+)+", name) or parts[0] not in rooms:
        return False
    known = [num for num in range(1, len(parts) + 1) if texts_of(SOURCE.joinpath(*parts[:num]))]
    text = texts_of(SOURCE.joinpath(*parts[: known[-1]]))
    return not all(re.search(rf"\b{part}\b", text) for part in parts[known[-1] :])


def texts_of(path: Path) -> str:
    """The text of a module, or of all modules of a folder; empty where there is neither."""
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


@pytest.mark.parametrize("page", PAGES_ON_CODE)
def test_files_and_names_that_pages_tell_of_are_there(page: str) -> None:
    assert [name for name in re.findall(r"`([^`\n]+)`", TEXTS[page]) if names_nothing(name)] == []


def test_a_name_that_is_not_there_would_be_found() -> None:
    assert names_nothing("models/zoo_places.py")
    assert names_nothing("localize.judge.Oracle")
    assert not names_nothing("whence.localize.judge.Judge")
    assert not names_nothing("data.fields")
    assert not names_nothing("whence locate")


def test_the_house_lists_every_file_of_models() -> None:
    """The block of models by role, folder by folder; a name before any folder lies in the room."""
    block = re.search(
        r"## Models, by role\n\n```text\n(.*?)```", TEXTS["architecture.md"], re.DOTALL
    )
    assert block is not None
    lines, folder = defaultdict(list), "."
    for line in block.group(1).splitlines():
        name, is_folder, rest = line.partition("/")
        folder = name if is_folder and name.isidentifier() else folder
        lines[folder].append(rest if is_folder else line)
    for folder, text in lines.items():
        words = set(re.findall(r"\w+", " ".join(text)))
        files = {file.stem for file in (SOURCE / "models" / folder).glob("*.py")} - {"__init__"}
        assert files <= words, f"{folder}: {files - words}"
    folders = {path.parent.name for path in (SOURCE / "models").glob("*/*.py")}
    assert folders <= set(lines)


def test_flowers_telemetry_is_off() -> None:
    assert "no telemetry" in TEXTS["SECURITY.md"]
    starts = [
        file
        for file in SOURCE.rglob("*.py")
        if re.search(r"flower-super|flwr run", file.read_text())
    ]
    assert starts, "Flower is started somewhere"
    for file in starts:
        assert "FLWR_TELEMETRY_ENABLED" in file.read_text(), file
