"""How `asgi-masterctl` ends."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of `asgi-masterctl`; 0 to 2 mean what they mean for `asgi-master`."""

    OK = 0
    """It was done, or accepted where nobody waits."""
    FAILED = 1
    """It was not done; the reason is on standard error."""
    USAGE = 2
    """The command line is wrong, or fits several masters."""
    NO_MASTER = 10
    """No running master was found, or it does not answer."""
    TIMED_OUT = 11
    """`--timeout` passed first; what was asked for may still happen."""
