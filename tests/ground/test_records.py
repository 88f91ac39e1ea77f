"""Records out of tables: nested, in tuples and mappings, tagged unions, strict values, dotted
names, and the way back."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import BadOption, UnknownName
from whence.records import as_values, check, field_names, fill, finite_values, with_values
from whence.settings import NO_OPTIONS, parse_options


@dataclass(frozen=True, slots=True)
class Loss:
    name: Literal["triplet", "sare"] = "triplet"
    margin: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    kind: Literal["places"] = "places"
    num_views: int = 4
    size_px: tuple[int, int] | None = None
    loss: Loss = field(default_factory=Loss)


@dataclass(frozen=True)
class Tuples:
    radius_m: float
    kind: Literal["tuples"] = "tuples"
    is_full: bool = False
    loss: Loss = field(default_factory=Loss)
    means: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    name: str
    seed: int = 0
    limit_s: float | None = None
    first: Places | Tuples = field(default_factory=lambda: Tuples(2.0))
    branches: tuple[Annotated[Places | Tuples, "told apart by kind"], ...] = ()
    ends: tuple[Loss, Loss] = (Loss(), Loss("sare"))
    by_name: Mapping[str, Loss] = field(default_factory=dict)
    rest: Loss | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadOption(f"seed must be at least 0, not {self.seed}")


FULL = {
    "name": "all",
    "limit_s": 3,
    "first": {"kind": "places", "size_px": [240, 320]},
    "branches": [
        {"kind": "tuples", "radius_m": 25, "means": [1, 2.5], "loss": {"name": "sare"}},
        {"kind": "places", "loss": {"options": {"grid": [1, 2], "deep": {"a": None}}}},
    ],
    "ends": [{}, {"margin": 1}],
    "by_name": {"a.b": {"margin": 2}},
    "rest": {"name": "sare"},
}


def test_tables_become_records() -> None:
    plan = fill(Plan, FULL)
    assert plan == Plan(
        name="all",
        limit_s=3.0,
        first=Places(size_px=(240, 320)),
        branches=(
            Tuples(25.0, means=(1.0, 2.5), loss=Loss("sare")),
            Places(loss=Loss(options={"grid": [1, 2], "deep": {"a": None}})),
        ),
        ends=(Loss(), Loss(margin=1.0)),
        by_name={"a.b": Loss(margin=2.0)},
        rest=Loss("sare"),
    )
    assert type(plan.limit_s) is float
    assert fill(Plan, {"name": "plain"}) == Plan(name="plain")
    assert fill(Plan, {"name": "plain", "rest": None, "limit_s": None}) == Plan(name="plain")
    assert fill(Plan, {"name": "made", "rest": Loss("sare"), "branches": (Places(),)}).branches == (
        Places(),
    )
    assert fill(Loss, {"options": NO_OPTIONS}) == Loss()


def test_a_table_without_its_kind_is_of_the_defaults() -> None:
    assert fill(Plan, {"name": "a", "first": {"radius_m": 1}}).first == Tuples(1.0)
    with pytest.raises(BadOption, match=r"branches\.0 needs a kind: 'places' or 'tuples'"):
        fill(Plan, {"name": "a", "branches": [{"radius_m": 1}]})


@pytest.mark.parametrize(
    ("change", "name", "nearest"),
    [
        ({"naem": "b"}, "naem", "name"),
        ({"first": {"kind": "places", "num_view": 1}}, "first.num_view", "first.num_views"),
        (
            {"branches": [{"kind": "places", "loss": {"nam": 1}}]},
            "branches.0.loss.nam",
            "branches.0.loss.name",
        ),
        ({"branches": [{"kind": "place"}]}, "place", "places"),
        ({"branches": [{"kind": 3}]}, "3", "places"),
        ({"first": {"kind": ["places"]}}, "['places']", "places"),
        ({"branches": [{"kind": None}]}, "None", "places"),
        (
            {"branches": [{"kind": "tuples", "radius_m": 1, "num_views": 1}]},
            "branches.0.num_views",
            "branches.0.means",
        ),
        ({"ends": [{}, {"nome": 1}]}, "ends.1.nome", "ends.1.name"),
        ({"by_name": {"x": {"name": "sara"}}}, "sara", "sare"),
        ({"rest": {"name": True}}, "True", "sare"),
    ],
)
def test_names_that_do_not_exist_are_refused_with_the_nearest(
    change: Mapping[str, Any], name: str, nearest: str
) -> None:
    with pytest.raises(UnknownName) as caught:
        fill(Plan, {"name": "a", **change}, what="field of the plan")
    assert caught.value.name == name
    assert nearest in caught.value.nearest


def test_what_an_unknown_name_is_a_name_of_is_said() -> None:
    with pytest.raises(UnknownName, match=r"^unknown field of the plan 'sed'"):
        fill(Plan, {"name": "a", "sed": 1}, what="field of the plan")
    with pytest.raises(UnknownName, match=r"^unknown value of ends\.0\.name 'x'"):
        fill(Plan, {"name": "a", "ends": [{"name": "x"}, {}]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, "seed is a whole number, not '1'"),
        ({"seed": True}, "seed is a whole number, not True"),
        ({"seed": 1.0}, "seed is a whole number, not 1.0"),
        ({"seed": None}, "seed is a whole number, not None"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"name": 3}, "name is a text, not 3"),
        ({"name": b"a"}, "name is a text, not b'a'"),
        ({"limit_s": "fast"}, "limit_s is a number or nothing, not 'fast'"),
        ({"limit_s": True}, "limit_s is a number or nothing, not True"),
        ({"first": 3}, "first is a table, not 3"),
        ({"first": None}, "first is a table, not None"),
        ({"rest": []}, "rest is a table, not []"),
        ({"first": {"kind": "tuples"}}, "first.radius_m is missing"),
        ({"first": {"kind": "tuples", "radius_m": "1"}}, "first.radius_m is a number, not '1'"),
        (
            {"first": {"kind": "tuples", "radius_m": 1, "is_full": 1}},
            "first.is_full is true or false, not 1",
        ),
        ({"first": {"kind": "places", "size_px": 3}}, "first.size_px is a list or nothing, not 3"),
        (
            {"first": {"kind": "places", "size_px": [1]}},
            "first.size_px is a list of 2 values, each a whole number or nothing, not [1]",
        ),
        (
            {"first": {"kind": "places", "size_px": [1, 2.5]}},
            "first.size_px is a list of 2 values, each a whole number",
        ),
        ({"branches": {"kind": "places"}}, "branches is a list, not {'kind': 'places'}"),
        ({"branches": ["places"]}, "branches.0 is a table, not 'places'"),
        (
            {"branches": [{"kind": "tuples", "radius_m": 1, "means": [True]}]},
            "branches.0.means is a list of values, each a number",
        ),
        ({"ends": [{}]}, "ends is a list of 2 values, each a table, not [{}]"),
        ({"by_name": [1]}, "by_name is a table, not [1]"),
        ({"by_name": {"x": 1}}, "by_name.x is a table, not 1"),
        ({"rest": {"options": 3}}, "rest.options is a table, not 3"),
        ({"rest": {"options": {3: 3}}}, "rest.options is a table, not {3: 3}"),
    ],
)
def test_values_of_another_kind_are_refused(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(BadOption) as caught:
        fill(Plan, {"name": "a", **change})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("values", [3, None, "name", [["name", "a"]]])
def test_what_is_no_table_is_refused(values: Any) -> None:
    with pytest.raises(BadOption, match=r"^field is a table, not "):
        fill(Plan, values)
    with pytest.raises(BadOption, match="name is missing"):
        fill(Plan, {})


def test_depths_without_end_are_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadOption, match=r"nested too deeply|is a list"):
        fill(Plan, {"name": "a", "first": {"kind": "places", "size_px": deep}})


def test_single_values_are_checked_too() -> None:
    assert check(float, 1, "alpha of loss") == 1.0
    assert check(tuple[int, int], [1, 2], "grid") == (1, 2)
    assert check(Literal["a", "b"], "a", "word") == "a"
    with pytest.raises(BadOption, match=r"^alpha of loss is a number, not 'x'"):
        check(float, "x", "alpha of loss")
    with pytest.raises(UnknownName, match="value of word 'c'"):
        check(Literal["a", "b"], "c", "word")


texts, numbers, whole = (
    st.text(max_size=5),
    st.floats(allow_nan=False),
    st.integers(-(2**60), 2**60),
)
values = st.recursive(
    st.none() | st.booleans() | whole | numbers | texts,
    lambda one: st.lists(one, max_size=2) | st.dictionaries(texts, one, max_size=2),
    max_leaves=6,
)
losses = st.builds(
    Loss, st.sampled_from(["triplet", "sare"]), numbers, st.dictionaries(texts, values, max_size=3)
)
places = st.builds(
    Places, num_views=whole, size_px=st.none() | st.tuples(whole, whole), loss=losses
)
tuples = st.builds(
    Tuples,
    numbers,
    is_full=st.booleans(),
    loss=losses,
    means=st.lists(numbers, max_size=4).map(tuple),
)
plans = st.builds(
    Plan,
    name=texts,
    seed=st.integers(0),
    limit_s=st.none() | numbers,
    first=places | tuples,
    branches=st.lists(places | tuples, max_size=3).map(tuple),
    ends=st.tuples(losses, losses),
    by_name=st.dictionaries(texts, losses, max_size=2),
    rest=st.none() | losses,
)


@given(plans)
def test_records_come_back_from_their_values_and_from_json(plan: Plan) -> None:
    assert fill(Plan, as_values(plan)) == plan
    assert fill(Plan, json.loads(json.dumps(as_values(plan)))) == plan


def test_values_in_mappings_stay_what_they_are() -> None:
    plan = Plan(name="a", rest=Loss(options=MappingProxyType({"grid": (1, 2), "far": math.inf})))
    back = fill(Plan, as_values(plan))
    assert back.rest is not None
    assert back.rest.options == {"grid": (1, 2), "far": math.inf}


@given(plans, st.data())
def test_every_name_can_be_replaced_by_its_own_value_and_no_other(
    plan: Plan, data: st.DataObject
) -> None:
    plan = replace(plan, by_name={})
    name = data.draw(st.sampled_from(field_names(plan)))
    found: Any = plan
    for part in name.split("."):
        found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
    assert with_values(plan, {name: found}) == plan
    with pytest.raises(UnknownName):
        with_values(plan, {f"{name}_": found})


def override(plan: Plan, assignments: list[str], *, what: str = "field") -> Plan:
    """As `--set` does it."""
    return with_values(plan, parse_options(assignments), what=what)


def test_texts_replace_fields_by_dotted_name() -> None:
    plan = fill(Plan, FULL)
    new = override(
        plan,
        [
            "seed=3",
            "branches.0.loss.name=triplet",
            "branches.1.loss.options.alpha=1e-4",
            "ends.1.margin=5",
        ],
    )
    assert new.seed == 3
    assert isinstance(new.branches[0], Tuples)
    assert new.branches[0] == replace(plan.branches[0], loss=Loss())
    assert new.branches[1].loss.options == {"grid": [1, 2], "deep": {"a": None}, "alpha": 1e-4}
    assert new.ends == (Loss(), Loss(margin=5.0))
    assert type(new.ends[1].margin) is float
    assert plan == fill(Plan, FULL), "the record itself stays"
    assert override(plan, ["limit_s=4", "first.size_px=[3, 4]"]).first == Places(size_px=(3, 4))
    assert override(Plan(name="a"), ["limit_s=4"]).limit_s == 4.0, (
        "a field that holds nothing can be set"
    )


def test_a_new_kind_makes_a_record_of_that_kind() -> None:
    plan = fill(Plan, FULL)
    assert override(plan, ["branches.0.kind=places", "branches.0.num_views=7"]).branches[
        0
    ] == Places(num_views=7)
    assert override(plan, ["first.kind=places"]) == plan, "the same kind changes nothing"
    with pytest.raises(BadOption, match=r"first\.radius_m is missing"):
        override(plan, ["first.kind=tuples"])
    with pytest.raises(UnknownName, match="places"):
        override(plan, ["first.kind=plces"])


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [
        ("sed=1", "seed"),
        ("first.num_view=1", "first.num_views"),
        ("branches.2.num_views=1", "branches.1.num_views"),
        ("branches.-1.num_views=1", "branches.1.num_views"),
        ("branches.loss.name=sare", "branches.0.loss.name"),
        ("branches.0=1", "branches.0.kind"),
        ("branches=[]", "branches.0.kind"),
        ("rest=3", "rest.name"),
        ("seed.x=3", "seed"),
        ("branches.1.loss.options.deep.a=1", "branches.1.loss.options"),
        ("branches..loss=1", "branches.0.loss.name"),
    ],
)
def test_dotted_names_that_do_not_exist_are_refused_with_the_nearest(
    assignment: str, nearest: str
) -> None:
    with pytest.raises(UnknownName, match=r"^unknown field of the plan") as caught:
        override(fill(Plan, FULL), [assignment], what="field of the plan")
    assert nearest in str(caught.value)


def test_names_are_dotted_and_counted() -> None:
    names = field_names(fill(Plan, FULL))
    assert {
        "name",
        "first.size_px",
        "branches.0.loss.name",
        "branches.1.num_views",
        "ends.1.margin",
        "rest.options",
    } <= set(names)
    assert len(names) == len(set(names))
    assert {name.split(".")[0] for name in names} == {entry.name for entry in fields(Plan)}


def test_plain_values_need_no_pydantic() -> None:
    code = (
        "import sys, whence.settings as s; from whence.records import fill;"
        "assert fill(s.Settings, {'threads': 2, 'offline': True}) == s.Settings(threads=2, "
        "offline=True);"
        "assert 'pydantic' not in sys.modules; fill(s.Stage, {'scorer': 'a', 'num_candidates': 3, "
        "'max_seconds': 1});"
        "assert 'pydantic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_for_json_are_finite() -> None:
    value = {"a": [math.nan, (1.23456789, -math.inf)], 3: {"b": True, "c": None, "d": 7, "e": "x"}}
    assert finite_values(value) == {
        "a": [None, [1.23456789, None]],
        "3": {"b": True, "c": None, "d": 7, "e": "x"},
    }
    assert finite_values(value, digits=3)["a"] == [None, [1.235, None]]
    json.dumps(finite_values(value), allow_nan=False)
