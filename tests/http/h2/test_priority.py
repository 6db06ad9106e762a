"""Priorities."""

import pytest

from asgi_master.http.h2.priority import read_priority


@pytest.mark.parametrize(
    ("value", "urgency", "is_incremental"),
    [
        (b"", 3, False),
        (b"u=0", 0, False),
        (b"u=7, i", 7, True),
        (b"i,u=1", 1, True),
        (b"\ti ,\tu=1 ", 1, True),
        (b"i=?1", 3, True),
        (b"i, i=?0", 3, False),
        (b"u=1, u=2", 2, False),
        (b"u=2;a=b, i;c", 2, True),
        (b"x=1, u=2, y", 2, False),
        # wrong, and so ignored
        (b"u=8", 3, False),
        (b"u=-1", 3, False),
        (b"u=12", 3, False),
        (b"u=1.0", 3, False),
        (b"u", 3, False),
        (b"u=?1", 3, False),
        (b"i=1", 3, False),
        (b"i=?2", 3, False),
        (b"U=1, I", 3, False),
        (b"u=1,,i", 1, True),
        (b"u = 1", 3, False),
        (b"\xff\0", 3, False),
        (b"u=5, " + b"x" * 1000, 5, False),
        (b"x," * 200 + b"u=1", 3, False),
    ],
)
def test_priorities(value: bytes, urgency: int, is_incremental: bool) -> None:
    """RFC 9218 §4.1, §4.2."""
    assert read_priority(value) == (urgency, is_incremental)
