"""What processes use, by psutil."""

from dataclasses import dataclass

_NOT_ALLOWED = "those of another user's processes can be read with CAP_SYS_PTRACE only"
_NOT_KNOWN = "this kernel does not tell them"


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one process, in bytes."""

    rss: int
    """Resident: pages that are shared count in full, for each who shares them."""
    pss: int | None
    """Each shared page divided by those that share it: the sum over processes is what they take together."""
    uss: int | None
    """What nobody else shares: what would be free if it ended."""
    untold: str = ""
    """Why PSS and USS are `None`, where they are."""


def memory_of(pid: int) -> Memory | None:
    """The memory of a process; `None` if it is gone or cannot be looked at now. The kernel walks all its pages."""
    import psutil  # noqa: PLC0415 -- 1 MiB of each master, for those that are asked

    try:
        process = psutil.Process(pid)
        rss = int(process.memory_info().rss)
        try:
            found = process.memory_full_info()
        except psutil.AccessDenied:
            return Memory(rss, None, None, _NOT_ALLOWED)
    except (psutil.Error, OSError, ValueError):
        # psutil passes on what is not about the process, such as that no descriptor is left.
        return None
    if not hasattr(found, "pss"):
        # Without `smaps` this is all that psutil finds.
        return Memory(rss, None, None, _NOT_KNOWN)
    return Memory(int(found.rss), int(found.pss), int(found.uss))


def proportional_memory(pid: int) -> int | None:
    """The PSS of a process: the resident size would count the pages that all workers share once for each."""
    memory = memory_of(pid)
    return None if memory is None else memory.pss
