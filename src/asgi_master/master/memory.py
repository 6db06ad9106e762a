"""The memory of every process of the fleet, looked at in turn.

The kernel walks all pages of a process to answer, so a large one takes it a while. One is looked at in a second, and
less often where that would take more than a fiftieth of the master's time.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from asgi_master.control.metrics import Process
from asgi_master.records import record
from asgi_master.telemetry.resources import Memory, memory_of

log = logging.getLogger("asgi_master")

_PERIOD = 1.0
_SHARE = 50
"""The pause after a measurement lasts this many times as long as the measurement did."""


@record
class SampledProcess:
    """A process to look at. Its `kind`, slot and service are the labels that it is shown under."""

    pid: int
    kind: str
    slot: int | None = None
    service: str = ""


class MemorySampler:
    """Remembers the newest look at each process."""

    def __init__(
        self,
        look: Callable[[int], Memory | None] = memory_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._clock = clock
        self._due = clock()
        self._found: dict[SampledProcess, Memory | None] = {}
        """In the order in which they were looked at, the oldest look first."""
        self._is_told = False
        """Whether it was logged that some values cannot be read."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next process."""
        return self._clock() >= self._due

    def sample(self, processes: Sequence[SampledProcess]) -> None:
        """Sample one of the living processes: one that never was, else the one sampled longest ago."""
        self._found = {process: memory for process, memory in self._found.items() if process in processes}
        began = self._clock()
        # Also where looking fails.
        self._due = began + _PERIOD
        new = (process for process in processes if process not in self._found)
        process = next(new, None) or next(iter(self._found), None)
        if process is not None:
            self._found.pop(process, None)
            self._found[process] = memory = self._look(process.pid)
            if memory is not None and memory.unknown_reason and not self._is_told:
                self._is_told = True
                log.warning("the metrics lack the PSS and USS of some processes: %s", memory.unknown_reason)
        now = self._clock()
        self._due = now + max(_PERIOD, _SHARE * (now - began))

    def private(self, pid: int) -> int | None:
        """The USS of a process; `None` if it was not looked at, or cannot be read."""
        found = next((memory for process, memory in self._found.items() if process.pid == pid), None)
        return None if found is None else found.uss

    def processes(self) -> Iterator[Process]:
        """What is known, those of one kind and slot, or service, added up."""
        sums: dict[tuple[str, int | None, str], list[Memory]] = {}
        for process, memory in self._found.items():
            if memory is not None:
                sums.setdefault((process.kind, process.slot, process.service), []).append(memory)
        by_label = sorted(sums.items(), key=lambda item: (item[0][0], item[0][1] or 0, item[0][2]))
        for (kind, slot, service), found in by_label:
            yield Process(
                kind,
                slot,
                rss=sum(memory.rss for memory in found),
                pss=_sum(memory.pss for memory in found),
                uss=_sum(memory.uss for memory in found),
                service=service,
            )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """`None` if any is not known: a part of it would look like all."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
