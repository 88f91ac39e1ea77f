"""What pages say twice, or that code says too: README and results, settings and code, what comes
with the package."""

from __future__ import annotations

import re
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
