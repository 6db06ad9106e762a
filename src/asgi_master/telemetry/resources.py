"""What processes use, by psutil."""

import psutil


def proportional_memory(pid: int) -> int | None:
    """Bytes of memory of a process, each shared page divided by those that share it (PSS).

    The resident size would count the pages that all workers share once for each. `None` if the process is gone or
    not ours to look into.
    """
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except psutil.Error:
        return None
