"""Numbers in 16 bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.history.compact import UNKNOWN, decode, encode

VALUES = st.floats(0, 1e15)
UNITS = st.sampled_from([1e-5, 1e-4, 0.01, 1.0, 4096.0])


@given(VALUES, UNITS)
def test_the_error_is_small(value: float, unit: float) -> None:
    found = decode(encode(value, unit), unit)
    assert found is not None
    largest = 2047 * 2**31 * unit
    # Four digits are shown.
    assert found == pytest.approx(min(value, largest), rel=1 / 1500, abs=unit / 2)


@given(VALUES, VALUES, UNITS)
def test_order_is_kept(one: float, other: float, unit: float) -> None:
    low, high = sorted((one, other))
    assert encode(low, unit) <= encode(high, unit) < UNKNOWN


@pytest.mark.parametrize(
    ("value", "found"), [(0.0, 0.0), (-3.0, 0.0), (None, None), (7.4, 7.0), (2047.5, 2048.0)]
)
def test_the_ends(value: float | None, found: float | None) -> None:
    assert decode(encode(value, 1.0), 1.0) == found


def test_what_is_too_large_is_cut() -> None:
    assert encode(1e30, 1.0) == UNKNOWN - 1
