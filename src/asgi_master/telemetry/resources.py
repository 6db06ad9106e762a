"""Resource use of processes, read by psutil."""

from asgi_master.records import record

_NOT_ALLOWED = "those of another user's processes can be read with CAP_SYS_PTRACE only"
_NOT_KNOWN = "this kernel does not report them"


@record
class Memory:
    """The memory of one process, in bytes."""

    rss: int
    """Resident memory; shared pages count in full for each process."""
    pss: int | None
    """Proportional memory: each shared page divided by the number of processes that share it."""
    uss: int | None
    """Unshared memory: the bytes that would be freed if the process ended."""
    unknown_reason: str = ""
    """The reason why PSS and USS are `None`; empty otherwise."""


def memory_of(pid: int) -> Memory | None:
    """The memory of a process; `None` if it has ended or cannot be read now. The kernel walks all its pages."""
    import psutil  # noqa: PLC0415 -- 1 MiB of each master, needed only on request

    try:
        process = psutil.Process(pid)
        rss = int(process.memory_info().rss)
        try:
            found = process.memory_full_info()
        except psutil.AccessDenied:
            return Memory(rss, None, None, _NOT_ALLOWED)
    except (psutil.Error, OSError, ValueError):
        # psutil passes on errors that are not about the process, such as a lack of descriptors.
        return None
    if not hasattr(found, "pss"):
        # Without `smaps` psutil finds nothing else.
        return Memory(rss, None, None, _NOT_KNOWN)
    return Memory(int(found.rss), int(found.pss), int(found.uss))


def proportional_memory(pid: int) -> int | None:
    """The PSS of a process: its resident size counts the pages that all workers share once for each."""
    memory = memory_of(pid)
    return None if memory is None else memory.pss
