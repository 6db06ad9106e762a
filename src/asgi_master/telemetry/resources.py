"""Resource use of processes: memory, read by psutil, and CPU time."""

import os

from asgi_master.records import record

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
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


def cpu_seconds(pid: int) -> float | None:
    """The CPU seconds that a process has used; `None` if it has ended."""
    try:
        # Not `pathlib`: it is read of every worker, each second.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(fd, 1024).rpartition(b")")[2].split()
        finally:
            os.close(fd)
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
    except (OSError, ValueError, IndexError):
        return None
