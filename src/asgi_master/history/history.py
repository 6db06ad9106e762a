"""The history of a fleet: a minute second by second, and fifteen minutes in steps of ten seconds."""

import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from asgi_master.history.compact import decode, encode
from asgi_master.history.rings import Ring
from asgi_master.history.samples import FIELDS, FleetReading, Window, WorkerReading, counts_of

FINE_PERIOD, FINE_LENGTH = 1, 60
"""Seconds of one sample, and how many are kept."""
COARSE_PERIOD, COARSE_LENGTH = 10, 90
"""The same, of the samples that cover fifteen minutes."""

MOST_SLOTS = 500
"""Workers of higher slots count for the fleet and their generation only."""
_MOST_SLOTS_DUMPED = 64
_MOST_GENERATIONS = 4
"""Those in memory at most: of a rollout, the committed and the held one, and one that drains."""

FLEET = "fleet"
_LEAST_SLOPE_SECONDS = 60.0


def slot_key(slot: int) -> str:
    """The key of a slot's series."""
    return f"slot {slot}"


def generation_key(generation: int) -> str:
    """The key of a generation's series."""
    return f"generation {generation}"


class Series:
    """The samples of one slot, one generation or the fleet."""

    __slots__ = ("coarse", "fine", "pending")

    def __init__(self, fine: Ring | None = None, coarse: Ring | None = None) -> None:
        self.fine = fine or Ring(FINE_LENGTH)
        self.coarse = coarse or Ring(COARSE_LENGTH)
        self.pending: Window | None = None
        """What happened since the last coarse sample."""

    def put(self, tick: int, window: Window) -> None:
        """Add the second of this tick."""
        self.fine.put(tick, window.values())
        if self.pending is None:
            self.pending = Window()
        self.pending.add_later(window)

    def finish(self, tick: int) -> None:
        """Make a coarse sample of what is pending, if anything is."""
        if self.pending is not None:
            self.coarse.put(tick, self.pending.values())
            self.pending = None


class History:
    """All series. Times are in seconds on one monotonic clock, which a live upgrade continues."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._counts: dict[int, list[int]] = {}
        """By worker: the counts at the last reading."""
        self._workers: dict[int, Window] = {}
        """By worker: the newest second. While a worker is replaced, its slot has two."""
        self._totals: list[int] | None = None
        self._read_at = 0.0
        self.tick = -1
        """The number of the newest second; -1 before the first reading."""

    def record(self, now: float, reading: FleetReading) -> bool:
        """Add a reading, at most one in each second; returns whether it was added.

        The first one only begins the counting.
        """
        tick = int(now)
        if tick <= self.tick:
            return False
        windows = self._windows(now, reading)
        if self.tick >= 0 and tick // COARSE_PERIOD > self.tick // COARSE_PERIOD:
            for series in self._series.values():
                series.finish(self.tick // COARSE_PERIOD)
            self._forget(tick)
        self.tick = tick
        for key, window in windows.items():
            self._of(key).put(tick, window)
        return True

    def _windows(self, now: float, reading: FleetReading) -> dict[str, Window]:
        """What happened since the last reading, by key; nothing at the first."""
        before, self._totals = self._totals, counts_of(reading.totals)
        known, self._counts = self._counts, {}
        seconds, self._read_at = now - self._read_at, now
        windows: dict[str, Window] = {}
        self._workers = {}
        for worker in reading.workers:
            counts = self._counts[worker.worker] = counts_of(worker.stats)
            # One that was not there before began to count since then.
            grown = _difference(counts, known.get(worker.worker))
            own = self._workers[worker.worker] = Window.of_worker(seconds, grown, worker)
            for key in _keys(worker):
                other = windows.get(key)
                # Most slots have one worker: its window is that of the slot.
                windows[key] = own if other is None else other.beside(own)
        if before is None:
            self._workers = {}
            return {}
        fleet = Window(seconds)
        for generation in {worker.generation for worker in reading.workers}:
            fleet = fleet.beside(windows[generation_key(generation)])
        # With those that have ended meanwhile.
        fleet.counts = _difference(self._totals, before)
        fleet.queue = reading.queue
        if fleet.cpu is not None:
            fleet.saturation = min(1.0, fleet.cpu / max(reading.cpus, 0.01))
        threads = sum(worker.stats.wsgi_threads for worker in reading.workers)
        if threads:
            busy = sum(worker.stats.wsgi_busy for worker in reading.workers) / threads
            fleet.saturation = min(1.0, max(fleet.saturation or 0.0, busy))
        windows[FLEET] = fleet
        return windows

    def _of(self, key: str) -> Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series()
        return series

    def _forget(self, tick: int) -> None:
        """Drop what has no sample left, and all but the newest generations."""
        oldest = tick // COARSE_PERIOD - COARSE_LENGTH
        for key, series in list(self._series.items()):
            # After a live upgrade, a young one may have seconds alone.
            if max(series.coarse.newest, series.fine.newest // COARSE_PERIOD) < oldest:
                del self._series[key]
        for generation in self.generations()[:-_MOST_GENERATIONS]:
            del self._series[generation_key(generation)]

    # --- what it can be asked

    def slots(self) -> list[int]:
        """The slots with samples, in order."""
        return self._numbers("slot ")

    def generations(self) -> list[int]:
        """The generations with samples, in order."""
        return self._numbers("generation ")

    def _numbers(self, prefix: str) -> list[int]:
        return sorted(int(key.removeprefix(prefix)) for key in self._series if key.startswith(prefix))

    def latest(self, key: str) -> dict[str, float | None]:
        """The newest second, by field; all are `None` if there is no sample of this second."""
        series = self._series.get(key)
        if series is None or series.fine.newest != self.tick or self.tick < 0:
            return dict.fromkeys(FIELDS)
        return series.fine.last()

    def worker(self, number: int) -> dict[str, float | None]:
        """The newest second of one worker."""
        window = self._workers.get(number)
        values = [None] * len(FIELDS) if window is None else window.values()
        return {
            name: decode(encode(value, quantity.unit), quantity.unit)
            for (name, quantity), value in zip(FIELDS.items(), values, strict=True)
        }

    def minute(self, key: str, field: str) -> list[float | None]:
        """The last minute, second by second, oldest first."""
        series = self._series.get(key)
        return [None] * FINE_LENGTH if series is None else series.fine.read(field, self.tick)

    def quarter(self, key: str, field: str) -> list[float | None]:
        """The last fifteen minutes, in steps of `COARSE_PERIOD` seconds, oldest first."""
        series = self._series.get(key)
        end = self.tick // COARSE_PERIOD - 1
        return [None] * COARSE_LENGTH if series is None else series.coarse.read(field, end)

    def memory_slope(self, slot: int, age: float) -> float | None:
        """By how many bytes a second the memory of a slot's worker grows, which is `age` seconds old.

        `None` until there are samples of a minute.
        """
        length = min(COARSE_LENGTH, int(age // COARSE_PERIOD))
        values = self.quarter(slot_key(slot), "memory")[COARSE_LENGTH - length :]
        points = [(place * COARSE_PERIOD, value) for place, value in enumerate(values) if value is not None]
        return _slope(points)

    # --- over a live upgrade

    def dump(self) -> dict[str, Any]:
        """What survives, as data: the fleet, its generations, and the first slots."""
        slots = [slot_key(slot) for slot in self.slots()[:_MOST_SLOTS_DUMPED]]
        keys = [FLEET, *map(generation_key, self.generations()), *slots]
        return {
            "fields": list(FIELDS),
            "tick": self.tick,
            "series": {
                key: {"fine": series.fine.dump(), "coarse": series.coarse.dump()}
                for key in keys
                if (series := self._series.get(key)) is not None
            },
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """From the result of `dump`; an empty one if another version made it, or if it cannot be read."""
        history = cls()
        if data.get("fields") != list(FIELDS):
            return history
        try:
            for key, series in data["series"].items():
                history._series[key] = Series(
                    Ring.load(FINE_LENGTH, series["fine"]), Ring.load(COARSE_LENGTH, series["coarse"])
                )
            history.tick = int(data["tick"])
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
            return cls()
        return history


def _keys(worker: WorkerReading) -> Iterator[str]:
    if worker.slot < MOST_SLOTS:
        yield slot_key(worker.slot)
    yield generation_key(worker.generation)


def _difference(counts: Sequence[int], before: Sequence[int] | None) -> list[int]:
    if before is None:
        return list(counts)
    return [max(0, now - then) for now, then in zip(counts, before, strict=True)]


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of the line of least squares; `None` if the points cover less than a minute."""
    if len(points) < 2 or points[-1][0] - points[0][0] < _LEAST_SLOPE_SECONDS:
        return None
    mean_x = sum(x for x, _y in points) / len(points)
    mean_y = sum(y for _x, y in points) / len(points)
    squares = sum((x - mean_x) ** 2 for x, _y in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / squares
