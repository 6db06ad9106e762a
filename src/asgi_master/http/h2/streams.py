"""The states of a stream (RFC 9113 §5.1), as a server without push sees them.

A stream that is idle has no object yet. What a peer may send in which state is decided where its frames are handled;
what follows from the end of one side is the two tables here.
"""

from enum import IntEnum, auto
from typing import Final


class StreamState(IntEnum):
    """Which sides of a stream have not ended."""

    OPEN = auto()
    HALF_CLOSED_REMOTE = auto()
    """The request is complete."""
    HALF_CLOSED_LOCAL = auto()
    """The response has left completely, the request is still coming."""
    CLOSED = auto()


OPEN, HALF_CLOSED_REMOTE, HALF_CLOSED_LOCAL, CLOSED = StreamState

AFTER_REMOTE_END: Final = {OPEN: HALF_CLOSED_REMOTE, HALF_CLOSED_LOCAL: CLOSED}
"""The state after END_STREAM arrived. It cannot arrive in the others."""

AFTER_LOCAL_END: Final = {OPEN: HALF_CLOSED_LOCAL, HALF_CLOSED_REMOTE: CLOSED}
"""The state after END_STREAM was sent. It cannot be sent in the others."""
