"""Percentiles of durations, of which only the counts in the buckets of a histogram are known."""

from collections.abc import Sequence

from asgi_master.ipc.counters import DURATION_BOUNDS


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """The duration, in seconds, that the given share of the counted ones does not exceed; `None` if none are counted.

    `buckets` are as `Stats.buckets`. Within a bucket, durations are taken for evenly spread, as Prometheus'
    `histogram_quantile` does. In the last bucket, which has no upper bound, it is the lower one.
    """
    total = sum(buckets)
    if total <= 0:
        return None
    rank = share * total
    below, lower = 0, 0.0
    for count, upper in zip(buckets, DURATION_BOUNDS, strict=False):
        if count > 0 and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
        lower = upper
    return lower
