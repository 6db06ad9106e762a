"""Which system calls asgi-master makes, in which role, and how each may fail: the table of `make drill-faults`.

Derived from what the roles do call (strace over a boot, requests, a crash, a reload, scaling, a status, stacks, a
scrape, a renewed certificate, a rollback and a stop; `test_nothing_is_called_that_is_not_in_the_table` compares) and
from what the manual pages say. Of errors that mean the same to the program, one stands for all.
"""

from dataclasses import dataclass

MASTER = {
    # Waiting and events.
    "epoll_wait": "EINTR EINVAL",
    "epoll_ctl": "ENOMEM ENOSPC",
    "poll": "ENOMEM EINTR",
    # Files.
    "openat": "EMFILE ENFILE EACCES ENOENT EIO",
    "read": "EIO EINTR ENOMEM",
    "write": "EIO ENOSPC EAGAIN EPIPE",
    "lseek": "ESPIPE EINVAL",
    "newfstatat": "ENOMEM ENOENT EACCES EIO",
    "getdents64": "EIO ENOENT",
    "readlink": "EACCES ENOMEM",
    "getcwd": "ENOENT",
    "ioctl": "ENOTTY EPERM",
    "fcntl": "EPERM ENOMEM EMFILE",
    "close": "EIO EINTR",
    "pwrite64": "EIO ENOSPC",
    "fchmod": "EPERM EROFS",
    "unlinkat": "EACCES EBUSY",
    "pipe2": "EMFILE ENFILE",
    "memfd_create": "EMFILE ENOMEM",
    # Sockets.
    "socket": "EMFILE ENOBUFS EACCES",
    "socketpair": "EMFILE ENOBUFS",
    "accept4": "EMFILE ENOBUFS ECONNABORTED EPERM",
    "getsockopt": "ENOBUFS ENOPROTOOPT EPERM",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOTCONN ENOBUFS",
    "recvfrom": "ENOMEM ECONNRESET EINTR EAGAIN",
    "recvmsg": "ENOMEM ECONNRESET EINTR EAGAIN",
    "sendto": "ENOBUFS EPIPE EAGAIN",
    "sendmsg": "ENOBUFS ENOMEM EPIPE EAGAIN EMFILE",
    # Processes.
    "clone3": "EAGAIN ENOMEM EPERM",
    "waitid": "EINTR ECHILD EPERM",
    "wait4": "EINTR ECHILD",
    "pidfd_open": "EMFILE ENOMEM ESRCH",
    "pidfd_send_signal": "EPERM ESRCH",
    "kill": "EPERM ESRCH",
    # Memory, and the rest.
    "mmap": "ENOMEM",
    "brk": "ENOMEM",
    "mremap": "ENOMEM",
    "mprotect": "ENOMEM",
    "getrandom": "EINTR ENOSYS",
}

ZYGOTE = {
    "recvmsg": "ENOMEM EINTR",
    "sendmsg": "ENOBUFS EAGAIN",
    "clone": "EAGAIN ENOMEM EPERM",
    "wait4": "EINTR ECHILD",
    "openat": "EMFILE",
    "read": "EIO",
    "close": "EIO",
    "mmap": "ENOMEM",
    "brk": "ENOMEM",
    "write": "EIO",
    "newfstatat": "ENOMEM",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOTCONN",
    "getsockopt": "ENOBUFS",
    "ioctl": "EPERM",
    "fcntl": "EPERM",
    "lseek": "ESPIPE",
    "getcwd": "ENOENT",
    "mprotect": "ENOMEM",
}

WORKER = {
    "epoll_pwait": "EINTR",
    "epoll_ctl": "ENOMEM ENOSPC",
    "io_uring_enter": "EINTR EAGAIN",
    "openat": "EMFILE ENOENT EIO",
    "read": "EIO ECONNRESET ENOMEM",
    "write": "EIO EPIPE EAGAIN ENOBUFS",
    "close": "EIO",
    "pwrite64": "EIO ENOSPC",
    "fchmod": "EPERM",
    "newfstatat": "ENOMEM EIO",
    "lseek": "ESPIPE",
    "ioctl": "EPERM",
    "fcntl": "EPERM",
    "accept4": "EMFILE ENOBUFS ECONNABORTED EPERM",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOTCONN ENOBUFS",
    "getsockopt": "ENOBUFS",
    "setsockopt": "ENOMEM ENOPROTOOPT",
    "recvmsg": "ENOMEM EAGAIN ECONNRESET",
    "recvfrom": "ENOMEM ECONNRESET EAGAIN",
    "sendmsg": "ENOBUFS EPIPE EAGAIN",
    "sendto": "ENOBUFS EPIPE EAGAIN",
    "dup": "EMFILE",
    "shutdown": "ENOTCONN",
    "mmap": "ENOMEM",
    "brk": "ENOMEM",
    "mprotect": "ENOMEM",
    "getrandom": "EINTR",
}

BOOT = {
    "socketpair": "EMFILE",
    "epoll_create1": "EMFILE",
    "eventfd2": "EMFILE",
    "memfd_create": "EMFILE",
    "io_uring_setup": "ENOSYS EPERM",
    "clone3": "EAGAIN",
    "openat": "EMFILE",
    "fcntl": "EPERM",
    "mmap": "ENOMEM",
    "sendmsg": "ENOBUFS",
}
"""Of a worker before it serves: what its zygote calls fails with it."""

START = {call: errors.split()[0] for call, errors in MASTER.items() if call != "brk"} | {
    "bind": "EADDRINUSE",
    "listen": "EADDRINUSE",
    "setsockopt": "ENOMEM",
    "epoll_create1": "EMFILE",
    "ftruncate": "EINTR",
    "unlink": "EACCES",
    "chmod": "EPERM",
    "mkdir": "ENOSPC",
    "flock": "ENOLCK",
    "prctl": "EINVAL",
}
"""Of a master from its first step until it is ready.

Without `brk`: an interpreter that is refused memory in the middle of an import may end by SIGSEGV.
"""

_CANNOT = "it cannot fail"
_ARGUMENTS = "it fails only for arguments that are wrong"
LEFT_OUT = {
    **dict.fromkeys(
        (
            "getpid",
            "getppid",
            "gettid",
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "umask",
            "uname",
            "sysinfo",
        ),
        _CANNOT,
    ),
    **dict.fromkeys(
        ("exit", "exit_group", "rt_sigreturn", "restart_syscall", "sched_yield", "pause"), _CANNOT
    ),
    **dict.fromkeys(
        ("rt_sigaction", "rt_sigprocmask", "sigaltstack", "clock_gettime", "getitimer", "prlimit64"),
        _ARGUMENTS,
    ),
    **dict.fromkeys(
        ("arch_prctl", "set_tid_address", "set_robust_list", "rseq", "access", "prctl"), _ARGUMENTS
    ),
    **dict.fromkeys(("clock_nanosleep", "madvise", "io_uring_enter"), "an early return, or advice not taken"),
    "futex": "the C library ends the process for every answer that it does not expect",
    "munmap": "what it frees would stay, and nothing else",
    "execve": "the call of a child that is not there yet: the error reaches the parent through clone",
    "tgkill": "a signal to itself",
    "kill": "a signal to itself, or the question whether the master lives",
    "pread64": "of memory",
    "ftruncate": "of memory, at the start",
    "dup": "of a worker that takes connections over: see `accept4`",
    "shutdown": "the end of a connection",
    "connect": "the C library's, to look names up",
    "sendfile": "the loop's, for files",
    "getrusage": _ARGUMENTS,
    "chdir": "an error of the start of a zygote",
    "dup2": "an error of the start of a zygote",
    "pipe2": "of a worker's start: see `socketpair`",
    "setsockopt": "of a connection or a start",
    "socket": "the C library's, to look names up",
    "getdents64": "of an import",
    "readlink": "of an import",
    "open": "the C library's, to know the machine",
    "mremap": "see `mmap`",
    "listen": "of the start, or of a reload with another bind: see `START`",
    "bind": "as `listen`",
    "unlink": "as `listen`",
    "chmod": "as `listen`",
    "chown": "as `listen`",
    "mkdir": "as `listen`",
    "flock": "as `listen`",
    "epoll_create1": "as `listen`",
}
"""What a role calls, and why the drill does not have it fail there."""


@dataclass(frozen=True)
class Pair:
    """One way in which one role may be failed by the kernel."""

    role: str
    call: str
    error: str

    def __str__(self) -> str:
        return f"{self.role}-{self.call}-{self.error}"


TABLE = {"master": MASTER, "zygote": ZYGOTE, "worker": WORKER, "boot": BOOT, "start": START}


def pairs(role: str) -> list[Pair]:
    """All of a role."""
    return [Pair(role, call, error) for call, errors in TABLE[role].items() for error in errors.split()]
