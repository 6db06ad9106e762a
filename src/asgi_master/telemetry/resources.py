"""What processes use, by psutil."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one process, in bytes."""

    rss: int
    """Resident: pages that are shared count in full, for each who shares them."""
    pss: int
    """Each shared page divided by those that share it: the sum over processes is what they take together."""
    uss: int
    """What nobody else shares: what would be free if it ended."""


def memory_of(pid: int) -> Memory | None:
    """The memory of a process; `None` if it is gone or not ours to look into. The kernel walks all its pages."""
    import psutil  # noqa: PLC0415 -- 1 MiB of each master, for those that are asked

    try:
        found = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return None
    return Memory(int(found.rss), int(found.pss), int(found.uss))


def proportional_memory(pid: int) -> int | None:
    """The PSS of a process: the resident size would count the pages that all workers share once for each."""
    memory = memory_of(pid)
    return None if memory is None else memory.pss
