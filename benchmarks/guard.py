"""Guard against requests that come to cost much more: seconds long, for CI.

    python benchmarks/guard.py [--rounds 40]

CPU time of whole requests on connections without a kernel, as a ratio to a calibration loop of plain Python that is
measured in turn with them, so it says the same on fast, slow and busy machines. Fails if a ratio is far above the one
kept here; after a change that makes requests cheaper, or dearer for a reason, put the printed ratios in its place.
"""

import argparse
import asyncio
import sys
import time

import uvloop
from layers import BROWSER, POST, TINY, calibration, connected

_KEPT = {
    (3, 11): {"tiny": 2.6, "browser": 2.6, "POST of 1 KB": 3.0},
    (3, 13): {"tiny": 2.2, "browser": 2.3, "POST of 1 KB": 2.6},
}
"""By version of Python; what is not listed is judged by the nearest below."""
_ROOM = 1.6
"""How far above those is too much: more than noise, less than a mistake on the hot path."""
_ATTEMPTS = 3
_TURNS = 40
"""Of each measurement: short, so that what else the machine does hits calibration and requests alike."""
_CALIBRATIONS = 200
_PATIENCE = 20
"""Turns of the loop that an answer may take: on Python 3.11 applications start in the next one."""
_REQUESTS = {"tiny": TINY, "browser": BROWSER, "POST of 1 KB": POST}


class Serving:
    """Connections that are asked the same again and again."""

    def __init__(self, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._context, self._connections = connected(loop)

    async def micros(self) -> float:
        """CPU time of one request, in microseconds."""
        begin = time.thread_time_ns()
        for _ in range(_TURNS):
            for connection, _transport in self._connections:
                connection.data_received(self._request)
            await self._answered()
        return (time.thread_time_ns() - begin) / 1000 / (_TURNS * len(self._connections))

    async def _answered(self) -> None:
        for _ in range(_PATIENCE):
            await asyncio.sleep(0)
            if (
                all(transport.written for _, transport in self._connections)
                and not self._context.stats.in_flight
            ):
                break
        else:
            raise RuntimeError("the connections did not answer")
        for _connection, transport in self._connections:
            transport.written = 0


async def ratios(rounds: int) -> dict[str, float]:
    """What requests cost, in calibration loops: the least of some rounds of each."""
    loop = asyncio.get_running_loop()
    served = {name: Serving(request, loop) for name, request in _REQUESTS.items()}
    unit, least = float("inf"), dict.fromkeys(served, float("inf"))
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for _ in range(_CALIBRATIONS):
            calibration()
        unit = min(unit, (time.thread_time_ns() - begin) / 1000 / _CALIBRATIONS)
        for name, serving in served.items():
            least[name] = min(least[name], await serving.micros())
    return {name: micros / unit for name, micros in least.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each (default 40)")
    arguments = parser.parse_args()
    kept = _KEPT[max((version for version in _KEPT if version <= sys.version_info), default=min(_KEPT))]
    excess: dict[str, float] = {}
    for _ in range(_ATTEMPTS):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(ratios(arguments.rounds))
        words = [f"{name} {ratio:.2f} (kept {kept[name]:.2f})" for name, ratio in found.items()]
        print(f"a request in calibration loops: {', '.join(words)}")
        excess = {name: ratio for name, ratio in found.items() if ratio > kept[name] * _ROOM}
        if not excess:
            return 0
    worst = ", ".join(
        f"{name} costs {ratio / kept[name]:.2f} times what it did" for name, ratio in excess.items()
    )
    print(
        f"guard: {worst}; run benchmarks/layers.py to see in which layer, or renew the ratios",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
