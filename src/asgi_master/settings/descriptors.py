"""How many connections a worker can hold with the descriptors that it may open."""

import resource

_MIN_KEPT = 32
"""Descriptors: listeners, the loop, channels and logs take about twenty."""


def available_descriptors() -> int:
    """How many this process, and whatever it starts, may have open (RLIMIT_NOFILE)."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def most_connections(descriptors: int) -> int:
    """The connections for which three quarters of so many descriptors suffice; 0 is any number.

    The others are for what the application opens, such as files and connections to a database.
    """
    if descriptors == resource.RLIM_INFINITY:
        return 0
    return max(1, descriptors - max(descriptors // 4, _MIN_KEPT))
