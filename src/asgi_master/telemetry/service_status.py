"""The status line of the service, shown by `systemctl status`."""

from collections.abc import Collection


def describe_service(
    *,
    ready: int,
    wanted: int,
    generations: Collection[int],
    rate: float | None,
    doing: str = "",
    leaving: int = 0,
    waiting: int = 0,
    trouble: str = "",
) -> str:
    """For example `8/8 workers ready, generation 7, 312 req/s`.

    `rate` is in requests a second, `None` while unknown; `doing` the activity in one or two words (`reloading`);
    `waiting` the number of slots that back off; `trouble` the last failure that has not been recovered from.
    """
    parts = [f"{ready}/{wanted} {'worker' if wanted == 1 else 'workers'} ready"]
    if generations:
        numbers = [str(number) for number in sorted(generations)]
        parts.append(f"{'generation' if len(numbers) == 1 else 'generations'} {' and '.join(numbers)}")
    if rate is not None:
        parts.append(f"{rate:.0f} req/s" if rate >= 10 or rate == 0 else f"{rate:.1f} req/s")
    if leaving:
        parts.append(f"{leaving} leaving")
    if waiting:
        parts.append(f"{waiting} held back after failures")
    fleet = ", ".join(parts)
    return "; ".join(filter(None, [trouble, f"{doing}: {fleet}" if doing else fleet]))
