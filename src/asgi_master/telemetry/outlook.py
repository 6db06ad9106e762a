"""Sentences for what will happen next."""

from asgi_master.supervision.outlook import Step, Upcoming


def render(upcoming: Upcoming) -> str:
    """One line, such as `reload to generation 5: 3 of 4 workers run it, at most 12 s left`."""
    seconds, slot, generation = upcoming.seconds, upcoming.slot, upcoming.generation
    rollout = f"{_rollout(upcoming)} generation {generation}"
    match upcoming.step:
        case Step.STOP_BEGINS:
            return f"stop in {_seconds(seconds)}"
        case Step.STOPPING:
            return f"stop: waiting for {_count(upcoming.total, 'process', 'processes')}{_left(seconds)}"
        case Step.IMPORT:
            return f"{rollout}: importing the application{_left(seconds)}"
        case Step.CANARY if slot is None:
            return f"{rollout}: starting its first worker"
        case Step.CANARY:
            return f"{rollout}: proving itself in worker {slot}{_left(seconds)}"
        case Step.ROLLOUT:
            return f"{rollout}: {upcoming.done} of {_count(upcoming.total, 'worker', 'workers')} ready{_left(seconds)}"
        case Step.BOOT:
            return f"start of worker {slot}{_left(seconds)}"
        case Step.RESTART:
            return f"restart of worker {slot} in {_seconds(seconds)}"
        case Step.KILL:
            return f"worker {slot} is blocked: killed in {_seconds(seconds)} unless it goes on"
        case Step.LEAVE:
            return f"worker {slot} (generation {generation}) leaves{_left(seconds)}"
        case Step.RECYCLE:
            return f"worker {slot} is due to be replaced"
        case Step.SERVICE:
            return f"restart of service {upcoming.service} in {_seconds(seconds)}"
        case Step.ZYGOTE:
            return f"another zygote in {_seconds(seconds)}"
        case Step.LET_GO:
            return f"rollback to generation {generation} possible for {_seconds(seconds)}"


def _rollout(upcoming: Upcoming) -> str:
    if upcoming.is_rollback:
        return "rollback to"
    return "start of" if upcoming.generation == 1 else "reload to"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", at most {_seconds(seconds)} left"


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _count(count: int | None, one: str, several: str) -> str:
    return f"{count or 0} {one if count == 1 else several}"
