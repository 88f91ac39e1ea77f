"""Pages of the documentation site that are made of what is elsewhere: the README, the pages beside
it, the API, the examples.

Hooks of mkdocs, named in mkdocs.yml; nothing is written but the site.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import whence

ROOT = Path(__file__).parents[1]
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def on_files(files: Any, config: Any) -> Any:
    """The pages of docs/, and those that are made."""
    from mkdocs.structure.files import File

    made = {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "api.md": api_page(),
        "examples.md": examples_page(),
    }
    made |= {name: (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page's text, its links as they lead inside the site."""
    markdown = re.sub(r"\]\((?:docs|\.\.)/", "](", markdown)
    return re.sub(r"\]\(examples/(\w+)\.py\)", r"](examples.md#\1)", markdown)


def api_page() -> str:
    """The public names, each with its signature and what it says of itself."""
    parts = [
        "# API",
        "All public names of `import whence`; what a name needs is imported when it is used.",
    ]
    for name in whence.__all__:
        found = getattr(whence, name)
        parts += [f"## {name}", _described(name, found)]
        if inspect.isclass(found):
            for part, member in inspect.getmembers(found):
                is_public = not part.startswith("_") and part in vars(found)
                if is_public and (inspect.isfunction(member) or inspect.ismethod(member)):
                    parts.append(_described(f"{name}.{part}", member))
                elif is_public and isinstance(member, property):
                    parts.append(f"```text\n{name}.{part}\n\n{inspect.getdoc(member) or ''}\n```")
    return "\n\n".join(parts) + "\n"


def examples_page() -> str:
    """The files of examples/, one after the other."""
    parts = ["# Examples", "Short programs to begin with; tests run them."]
    for file in sorted((ROOT / "examples").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        first = str(ast.get_docstring(ast.parse(text))).split("\n")[0]
        parts += [f"## {file.stem}", first, f"```python\n{text.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _described(name: str, member: Any) -> str:
    return f"```text\n{name}{_signature(member)}\n\n{inspect.getdoc(member) or ''}\n```"


def _signature(member: Any) -> str:
    """The arguments of a call, one a line where they are many."""
    try:
        asked = inspect.signature(member)
    except (TypeError, ValueError):
        return ""
    kinds = [parameter.kind for parameter in asked.parameters.values()]
    parts = [
        _parameter(parameter)
        for parameter in asked.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        first = next(
            n
            for n, one in enumerate(asked.parameters.values())
            if one.kind is inspect.Parameter.KEYWORD_ONLY
        )
        parts.insert(first - (len(kinds) - len(parts)), "*")
    given = (
        ""
        if asked.return_annotation in (inspect.Signature.empty, None, "None")
        else f" -> {asked.return_annotation}"
    )
    line = f"({', '.join(parts)}){given}"
    return (
        line
        if len(line) <= 70
        else "(" + "".join(f"\n    {part}," for part in parts) + f"\n){given}"
    )


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(
        parameter.kind, ""
    )
    kind = "" if parameter.annotation is inspect.Parameter.empty else f": {parameter.annotation}"
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{kind}{default}"
