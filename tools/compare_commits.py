"""Compare what an older commit and the working tree compute on this machine: weights, answers and help texts, byte for byte.

    python tools/compare_commits.py OLD [--known FILE] [--parts ...]

Both run the same commands in processes of their own: a tiny city is rendered, three tiny recipes are trained, once in one go and
once killed and resumed, photos are located, and every help text is printed. Digests differ between kinds of processors, which is
why they are compared on one and written nowhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPES = {"tiny": 3, "tiny-tuples": 3, "geowarp-tiny": 2}
"""The step of each recipe's checkpoint that the killed run goes on from."""
PARTS = ("world", "help", "answers", *RECIPES)
READ_HELP = """
import json, subprocess, sys, typer
from whence.cli import app
def names(command, words):
    yield words
    for word, child in sorted(getattr(command, "commands", {}).items()):
        yield from names(child, [*words, word])
found = {}
for words in names(typer.main.get_command(app), []):
    said = subprocess.run([sys.executable, "-m", "whence", *words, "--help"], capture_output=True, text=True, check=True)
    found[" ".join(["whence", *words])] = said.stdout
print(json.dumps(found))
"""


def digest_of_folder(folder: Path, pattern: str = "*") -> str:
    """One hash over the names and bytes of the files below a folder."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob(pattern) if path.is_file()):
        whole.update(file.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def digest_of_weights(file: Path) -> str:
    """One hash over the names, types, shapes and bytes of the tensors in a safetensors file, whatever their order in it."""
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    whole = hashlib.sha256()
    for name, row in sorted(header.items()):
        first, last = row["data_offsets"]
        whole.update(f"{name} {row['dtype']} {row['shape']}".encode() + raw[8 + size + first : 8 + size + last])
    return whole.hexdigest()


class Side:
    """One of the two: a tree of source, and a folder that its commands write into."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder = tree, folder
        folder.mkdir(parents=True)
        settings = {
            "PYTHONPATH": str(tree / "src"),
            "COLUMNS": "100",
            "TERM": "dumb",
            "WHENCE_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.environment = {**os.environ, **settings, "WHENCE_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}

    def command(self, *words: str) -> str:
        """The standard output of a command of the package."""
        return self.python("-m", "whence", *words)

    def python(self, *words: str) -> str:
        """The standard output of Python with this tree's package."""
        done = subprocess.run([sys.executable, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.tree}: {' '.join(words)[:200]}\n{done.stdout}{done.stderr}")
        return done.stdout

    def world(self) -> dict[str, str]:
        """Digest of a tiny rendered city."""
        self.command("world", "city", "city", "--preset", "tiny", "--size", "64x48", "--workers", "1", "-q")
        return {"photos": digest_of_folder(self.folder / "city", "*.jpg")}

    def help(self) -> dict[str, str]:
        """Every help text."""
        texts: dict[str, str] = json.loads(self.python("-c", READ_HELP))
        return texts

    def answers(self) -> dict[str, str]:
        """Records of located photos, once by each of two models, less the times that were measured."""
        found = {}
        for model, rerank in (("rootsift-vlad", "inliers"), ("whence-resnet18conv4-gem-256", "geowarp:4,inliers:2")):
            self.command("index", "city/database", "--db", f"db-{model}", "--model", model, "-q")
            said = self.command("locate", "city/queries", "--db", f"db-{model}", "--rerank", rerank, "--json", "-q")
            found[model] = re.sub(r'"seconds": {[^}]*}', '"seconds": {}', said)
            assert found[model].count('"status"') > 5, found[model][:500]
        return found

    def train(self, recipe: str) -> dict[str, str]:
        """Digests of the weights after the last step, without and with a kill on the way."""
        at = RECIPES[recipe]
        words = ["train", recipe, "--dataset", "city", "--val", "city", "-q"]
        if recipe.startswith("geowarp"):
            words += ["--model", "whence-resnet18conv4-gem-256"]
        self.command(*words, "--out", f"{recipe}-whole")
        checkpoints = self.folder / f"{recipe}-killed" / "checkpoints"
        kill = subprocess.Popen(
            [sys.executable, "-m", "whence", *words, "--out", f"{recipe}-killed"],
            cwd=self.folder,
            env=self.environment,
            stdout=-3,
            stderr=-3,
        )
        while kill.poll() is None and not list(checkpoints.glob("*.safetensors")):
            time.sleep(0.002)
        kill.kill()
        kill.wait()
        # The run may have come further than its first checkpoint: what lies after it goes, as if the kill had come at once.
        for file in checkpoints.glob("*.safetensors"):
            if int(re.sub(r"\D", "", file.stem)) > at:
                file.unlink()
        assert list(checkpoints.glob("*.safetensors")), f"{recipe}: no checkpoint of step {at} to go on from"
        self.command(*words, "--out", f"{recipe}-killed", "--resume")
        found = {}
        for way in ("whole", "killed"):
            for name in ("final", "best"):
                found[f"{way} {name}"] = digest_of_weights(self.folder / f"{recipe}-{way}" / f"{name}.safetensors")
        found["log"] = self.log(self.folder / f"{recipe}-whole" / "log.jsonl")
        return found

    def log(self, file: Path) -> str:
        """The log's lines, less what depends on the clock."""
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        clock = re.compile(r"(.*_share|images_per_s|.*seconds|time)")
        return json.dumps([{key: value for key, value in line.items() if not clock.fullmatch(key)} for line in lines])

    def facts(self, part: str) -> dict[str, str]:
        """What this side says of one part."""
        return self.train(part) if part in RECIPES else getattr(self, part)()


def main() -> None:
    """Print, part by part, whether both sides say the same, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="the older commit")
    parser.add_argument("--known", type=Path, help="file that keeps what the older commit said, so that it runs once")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    num_different = 0
    parts = list(dict.fromkeys(["world", *arguments.parts]))
    with tempfile.TemporaryDirectory() as scratch:
        known = {} if arguments.known is None or not arguments.known.is_file() else json.loads(arguments.known.read_text())
        if missing := [part for part in parts if part not in known]:
            known |= facts_of_commit(arguments.old, Path(scratch), ["world", *missing])
            if arguments.known is not None:
                arguments.known.write_text(json.dumps(known))
        side = Side(ROOT, Path(scratch) / "new")
        for part in parts:
            old, new = known[part], side.facts(part)
            for name in sorted({*old, *new}):
                is_equal = old.get(name) == new.get(name)
                num_different += not is_equal
                text = new.get(name, "")
                shown = text[:16] if re.fullmatch("[0-9a-f]{64}", text) else f"{len(text)} characters"
                print(f"{part:14} {name:32} {shown:18} {'equal' if is_equal else 'DIFFERENT'}", flush=True)
                if not is_equal:
                    print_difference(old.get(name, ""), text)
    print(f"{num_different} differences")
    sys.exit(bool(num_different))


def facts_of_commit(commit: str, scratch: Path, parts: list[str]) -> dict[str, dict[str, str]]:
    """What a commit says of these parts, from a tree of its own."""
    tree = scratch / "tree"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(tree), commit], check=True)
    try:
        side = Side(tree, scratch / "old")
        return {part: side.facts(part) for part in dict.fromkeys(parts)}
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)


def print_difference(old: str, new: str) -> None:
    """Lines that are in one of two texts only."""
    import difflib

    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0):
        print("   ", line[:160])


if __name__ == "__main__":
    main()
