"""Exit statuses of `asgi-masterctl`."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of `asgi-masterctl`; 0 to 2 mean what they mean for `asgi-master`."""

    OK = 0
    """Executed; or accepted, without `--wait`."""
    FAILED = 1
    """Not executed; the reason is on standard error."""
    USAGE = 2
    """The command line has errors, or selects several masters."""
    NO_MASTER = 10
    """No running master was found, or it does not answer."""
    TIMED_OUT = 11
    """`--timeout` passed first; the command may still be executed."""
