"""Aggregators: from a backbone's features to one vector per image. Here is the table of all of them.

The base, pools that take a statistic of each channel, and small heads are in `pools`, sums of residuals to visual words in `words`,
MixVPR, SALAD and BoQ in `mixing`. Published quirks are kept: which results are of unit length is said at each class, and
`whence.models.network_descriptor.NetworkDescriptor` brings all of them to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from whence.cards import Entry
from whence.errors import BadOption, UnknownName
from whence.models.aggregators.pools import Aggregator, LinearHead
from whence.registry import KINDS, get_entry
from whence.settings import NO_OPTIONS

MOST, MOST_PARTS = 1_000_000, 100
"""The largest count that an option may ask for, and the largest of those counts that parts are made of, one by one."""
_PARTS = ("depth", "num_layers", "levels", "grid")


_ROOM = "whence.models.aggregators"
ENTRIES: dict[str, Entry] = {
    name: Entry(f"{_ROOM}.{factory}")
    for name, factory in {
        "mac": "pools:Mac",
        "spoc": "pools:Spoc",
        "gem": "pools:GeM",
        "rmac": "pools:RMac",
        "rrm": "pools:Rrm",
        "cls": "pools:Cls",
        "seqpool": "pools:SeqPool",
        "convap": "pools:ConvAp",
        "gem-fc": "pools:gem_fc",
        "cosplace": "pools:cosplace",
        "netvlad": "words:NetVlad",
        "netvlad-fc": "words:netvlad_fc",
        "crn": "words:Crn",
        "vlad": "words:HardVlad",
        "mixvpr": "mixing:MixVpr",
        "salad": "mixing:Salad",
        "megaloc": "mixing:megaloc",
        "boq": "mixing:BagOfQueries",
    }.items()
}


def list_aggregators() -> tuple[str, ...]:
    """Names that `make_aggregator` knows."""
    return tuple(KINDS["aggregator"])


def make_aggregator(name: str, channels: int, *, options: Mapping[str, Any] = NO_OPTIONS) -> Aggregator:
    """The aggregator of this name for maps of C channels, its weights random. Raises `UnknownName`, `BadOption`.

    Options are the keyword arguments of its class; `fc_dim` puts a linear layer to so many dimensions and unit length after any.
    """
    factory = get_entry("aggregator", name).load()
    known = {
        option: kind
        for option, kind in get_type_hints(factory.__init__ if inspect.isclass(factory) else factory).items()
        if option not in ("channels", "return")
    } | {"fc_dim": int}
    for option, value in options.items():
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
        _check_type(f"{option} of {name}", value, known[option])
    own = {option: tuple(value) if isinstance(value, list) else value for option, value in options.items() if option != "fc_dim"}
    made: Aggregator = factory(channels, **own)
    return LinearHead(made, options["fc_dim"]) if "fc_dim" in options else made


def _check_type(what: str, value: Any, kind: Any) -> None:
    """Raises `BadOption` unless the value is of the kind: a count, a number, one of some words, or a tuple of counts."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise BadOption(f"{what} is one of {', '.join(map(repr, get_args(kind)))}, not {value!r}")
    elif get_origin(kind) is tuple:
        if not isinstance(value, tuple | list) or len(value) != len(get_args(kind)):
            raise BadOption(f"{what} is {len(get_args(kind))} counts, not {value!r}")
        for part in value:
            _check_type(what, part, int)
    elif kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadOption(f"{what} is a count of at least 1, not {value!r}")
        if value > (most := MOST_PARTS if what.startswith(_PARTS) else MOST):
            raise BadOption(f"{what} is at most {most:,}, not {value!r}")
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise BadOption(f"{what} is a number, not {value!r}")
