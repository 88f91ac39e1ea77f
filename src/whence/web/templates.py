"""Pages out of templates (Jinja2): everything a page shows is escaped, and its policy names by hash
what may act on it.

A page that is one file forbids every request. Values travel to its script as JSON that cannot end
the element it stands in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from whence.records import finite_values

if TYPE_CHECKING:
    from jinja2 import Environment


def asset(name: str) -> str:
    """The text of a file of this room: a style, a script or a template."""
    return (files("whence.web") / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """How a content policy names an inline style or script: the hash of its text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def closed_policy(*, style: str, script: str = "") -> str:
    """The policy of a page that is one file: no request at all, and of styles and scripts only
    these."""
    scripts = f"; script-src '{digest(script)}'" if script else ""
    return f"default-src 'none'; img-src data:; style-src '{digest(style)}'{scripts}"


def as_script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no "<", no "&", no line separators, no NaN."""
    text = json.dumps(
        finite_values(value, digits=7), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render(template: str, values: dict[str, Any]) -> str:
    """The page that a template makes of values; a value that a template asks for and is not there
    is an error of the program."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
