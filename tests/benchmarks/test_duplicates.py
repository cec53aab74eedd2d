"""The measurement of the comparison of scans makes copies, and finds these and no others."""

from __future__ import annotations

from benchmarks.duplicates import compare_generated


def test_the_copies_that_are_made_are_found():
    made, found, others, *_ = compare_generated(300)
    assert (made, found, others) == (3, 3, 0)
