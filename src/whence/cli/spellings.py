"""Old spellings of the command line: for one release they work, and are answered with the new
one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_COMPARING = {
    "--matcher": "matcher={}",
    "--rerank-option": "scorer_options.{}",
    "--rerank-candidates": "num_candidates={}",
    "--rerank-seconds": "max_seconds={}",
    "--rerank-when-unsure": "when_unsure={}",
    "--rerank-otherwise": "otherwise={}",
    "--calibration": "calibration={}",
    "--query-mode": "query_mode={}",
    "--query-size": "query_size={}",
}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "index": {
        "--dtype": "dtype={}",
        "--keep-local": "keep_local=true",
        "--no-keep-local": "keep_local=false",
        "--allow-null-island": "allow_null_island=true",
        "--send-photos": "sends_photos=true",
    },
    "locate": _COMPARING
    | {
        "--min-confidence": "min_confidence={}",
        "--when-unknown": "when_unknown={}",
        "--every": "every={}",
        "--no-smooth": "is_smoothed=false",
    },
    "evaluate": _COMPARING
    | {
        "--split": "split={}",
        "--database-folder": "database_folder={}",
        "--queries-folder": "queries_folder={}",
        "--frames": "frames={}",
        "--allow-null-island": "allow_null_island=true",
        "--thresholds": "thresholds_m={}",
        "--recall-at": "recall_at={}",
        "--fit-on": "fit_folder={}",
        "--frugal": "is_frugal=true",
        "--pool": "pool={}",
        "--reverse": "is_reversed=true",
        "--speed": "speed={}",
        "--pairs-root": "pairs_root={}",
    },
}
"""By verb: options that are fields of `--set` today, and how; "{}" is the option's value."""
WORDS: Mapping[str, Mapping[str, str]] = {
    "evaluate": {
        "--registration": "--protocol registration",
        "--save-pairs": "--save-predictions {}",
    },
    "database": {"--scorer-option": "--option {}"},
}
"""Options that other words stand for today."""
JOBS = {
    "--refresh": "refresh",
    "--refit": "refit",
    "--moved": "move",
    "--remove": "remove",
    "--merge": "merge",
    "--export-npy": "export",
    "--import-npy": "import",
    "--copy-to": "copy-to",
    "--prepare-for": "prepare",
    "--check": "check",
}
"""Options of `whence index` that are verbs of `whence database` today; what follows all but three
of them is an argument."""
_WITHOUT_VALUE = ("--refresh", "--refit", "--check")
_TAKEN_OUT = {"--missing": "tag", "--undo": "undo"}


def new_spelling(arguments: Sequence[str]) -> list[str]:
    """The arguments that say today what `arguments` said in the release before: the same where they
    are no old spelling."""
    verb = arguments[0] if arguments else ""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parts, rest = list(arguments[1:end]), list(arguments[end:])
    if verb == "locate" and (found := _taken_out(parts)):
        return [*found, *rest]
    if verb == "index" and (found := _job(parts)):
        return [*found, *rest]
    named = verb
    if verb == "evaluate" and "--compare" in parts:
        parts.remove("--compare")
        named = "compare"
    return [
        *([named] if verb else []),
        *_translated(parts, FIELDS.get(verb, {}), WORDS.get(verb, {})),
        *rest,
    ]


def _translated(
    parts: Sequence[str], fields: Mapping[str, str], words: Mapping[str, str]
) -> list[str]:
    """Options one by one: those that are fields become `--set`."""
    found: list[str] = []
    todo = list(parts)
    while todo:
        part = todo.pop(0)
        name, equals, value = part.partition("=")
        template = fields.get(name) or words.get(name)
        if (
            template is None
            or (equals and "{}" not in template)
            or ("{}" in template and not equals and not todo)
        ):
            found.append(part)
            continue
        if "{}" in template and not equals:
            value = todo.pop(0)
        if name in fields:
            found += ["--set", template.replace("{}", value)]
        else:
            found += [word.replace("{}", value) for word in template.split()]
    return found


def _taken_out(parts: Sequence[str]) -> list[str]:
    """`tag FOLDER` and `undo FILE`, which were options of `locate`."""
    words = _split(parts, _TAKEN_OUT)
    for old, verb in _TAKEN_OUT.items():
        if old in words:
            place = words.index(old)
            return [verb, *words[place + 1 : place + 2], *words[:place], *words[place + 2 :]]
    return []


def _job(parts: Sequence[str]) -> list[str]:
    """A verb of `database`, which was an option of `index`; the same option again names a further
    argument."""
    words = _split(parts, JOBS)
    old = next((word for word in words if word in JOBS), None)
    if old is None:
        return []
    named, others = [], []
    while words:
        word = words.pop(0)
        if word != old:
            others.append(word)
        elif old not in _WITHOUT_VALUE and words:
            named.append(words.pop(0))
    if old == "--moved":
        named = [part for text in named for part in _two_folders(text)]
    return ["database", JOBS[old], *named, *_translated(others, {}, WORDS["database"])]


def _split(parts: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The parts, with "--name=value" of these names as two."""
    pieces = ((part.partition("="), part) for part in parts)
    return [
        word
        for (name, equals, value), part in pieces
        for word in ((name, value) if equals and name in names else (part,))
    ]


def _two_folders(text: str) -> tuple[str, ...]:
    """The folders of OLD=NEW; of several "=" the first behind which there is something."""
    places = [at for at, letter in enumerate(text) if letter == "="]
    if not places:
        return (text,)
    at = next((at for at in places if Path(text[at + 1 :]).exists()), places[0])
    return text[:at], text[at + 1 :]
