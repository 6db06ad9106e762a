"""The number of connections that a worker's descriptor limit allows."""

import resource

_MIN_KEPT = 32
"""Descriptors reserved for listeners, the loop, channels and logs, which take about twenty."""


def available_descriptors() -> int:
    """The descriptor limit of this process and its children (RLIMIT_NOFILE)."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def connection_limit(descriptors: int) -> int:
    """Three quarters of the descriptors, as a number of connections; 0 is unlimited.

    The rest is for the application: files, connections to databases.
    """
    if descriptors == resource.RLIM_INFINITY:
        return 0
    return max(1, descriptors - max(descriptors // 4, _MIN_KEPT))
