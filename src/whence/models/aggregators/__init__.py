"""Aggregators: from a backbone's features to one vector per image. Here is the table of all of
them.

The base, pools that take a statistic of each channel, and small heads are in `pools`, sums of
residuals to visual words in `words`, MixVPR, SALAD and BoQ in `mixing`, SegVPR's attention over two
scales in `attention`. Published quirks are kept: which results are of unit length is said at each
class, and `whence.models.network_descriptor.NetworkDescriptor` brings all of them to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from whence.cards import Entry
from whence.errors import BadOption, InputError, UnknownName
from whence.models.aggregators.pools import Aggregator, LinearHead, ProjectedHead
from whence.records import check
from whence.registry import KINDS, get_entry
from whence.settings import NO_OPTIONS

MOST, MOST_PARTS = 1_000_000, 100
"""The largest count that an option may ask for, and the largest of those counts that parts are made
of, one by one."""
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
        "gem-mixed": "pools:MixedGeM",
        "gem-calibrated": "pools:CalibratedGeM",
        "cosplace": "pools:cosplace",
        "netvlad": "words:NetVlad",
        "netvlad-fc": "words:netvlad_fc",
        "crn": "words:Crn",
        "vlad": "words:HardVlad",
        "mixvpr": "mixing:MixVpr",
        "salad": "mixing:Salad",
        "megaloc": "mixing:megaloc",
        "attention": "attention:AttentionPool",
        "boq": "mixing:BagOfQueries",
    }.items()
}


def list_aggregators() -> tuple[str, ...]:
    """Names that `make_aggregator` knows."""
    return tuple(KINDS["aggregator"])


def make_aggregator(
    name: str, channels: int, *, options: Mapping[str, Any] = NO_OPTIONS
) -> Aggregator:
    """The aggregator of this name for maps of C channels, its weights random. Raises `UnknownName`,
    `BadOption`.

    Options are the keyword arguments of its class; `fc_dim` puts a linear layer to so many
    dimensions and unit length after any, and `pca_dim` a PCA after that.
    """
    factory = get_entry("aggregator", name).load()
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    _, *own = inspect.signature(factory).parameters
    known = {option: hints.get(option, Any) for option in own} | {"fc_dim": int, "pca_dim": int}
    if unknown := [option for option in options if option not in known]:
        raise UnknownName(f"option of {name}", unknown[0], known)
    chosen = {
        option: _checked(f"{option} of {name}", value, known[option])
        for option, value in options.items()
    }
    fc_dim, pca_dim = chosen.pop("fc_dim", None), chosen.pop("pca_dim", None)
    made: Aggregator = factory(channels, **chosen)
    whole = made if fc_dim is None else LinearHead(made, fc_dim)
    return whole if pca_dim is None else ProjectedHead(whole, pca_dim)


def _checked(what: str, value: Any, kind: Any) -> Any:
    """The value of an option. Raises `BadOption` where it is of another kind, or a count that
    nothing can have."""
    kinds = get_args(kind) or (kind,)
    wanted = (
        ""
        if {*kinds} != {int}
        else f"; it is {'a count' if kind is int else f'{len(kinds)} counts'} of at least 1"
    )
    try:
        value = check(kind, value, what)
    except InputError as error:
        raise BadOption(f"{error}{wanted}") from None
    most = MOST_PARTS if what.startswith(_PARTS) else MOST
    for count in (value if isinstance(value, tuple) else (value,)) if wanted else ():
        if not 1 <= count <= most:
            raise BadOption(f"{what} is a count of at least 1 and at most {most:,}, not {count}")
    return value
