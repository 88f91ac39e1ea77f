"""Segments of texts, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import UnreadableTable
from whence.models.tokens.segments import SegmentCache, num_kept, segment, segment_records


def test_segments_are_cut_every_so_many() -> None:
    found = segment(range(45), 20)
    assert [len(one) for one in found] == [20, 20, 5]
    assert [num_kept(len(one), 2) for one in found] == [10, 10, 3]


@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), max_size=12), st.integers(1, 12)
)
def test_records_stay_whole_where_they_fit(records: list[list[int]], length: int) -> None:
    found = segment_records(records, length)
    assert [one for part in found for one in part] == [one for record in records for one in record]
    assert all(0 < len(part) <= length for part in found)
    ends = np.cumsum([len(part) for part in found]).tolist()
    starts = np.cumsum([0, *(len(record) for record in records)]).tolist()
    for start, record in zip(starts, records, strict=False):
        if len(record) <= length:
            assert not any(start < end < start + len(record) for end in ends)


def test_a_cache_keeps_by_model_and_content(tmp_path: Path) -> None:
    made = {(1, 2): np.arange(6, dtype=np.float32).reshape(2, 3), (3,): np.ones((1, 3), np.float32)}
    with SegmentCache.of_file(tmp_path / "segments") as cache:
        assert cache.find("a", made) == {}
        cache.keep("a", made)
    with SegmentCache.of_file(tmp_path / "segments") as cache:
        found = cache.find("a", [(1, 2), (3,), (4,)])
        assert found.keys() == made.keys()
        assert all(np.array_equal(found[one], made[one]) for one in made)
        assert cache.find("b", made) == {}
        assert (cache.num_found, cache.num_missed, len(cache)) == (2, 3, 2)


def test_another_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text(
        "not a cache, but notes of a person, and long enough to be read as something else" * 9
    )
    with pytest.raises(UnreadableTable, match="not a cache"):
        SegmentCache.of_file(tmp_path / "notes")
