"""The supervision policy that the settings ask for."""

from asgi_master.settings.model import Settings
from asgi_master.supervision.policy import Policy

_WATCH_TIME = 1.0


def policy_of(settings: Settings) -> Policy:
    """The few numbers that the supervision core decides by."""
    process, development = settings.process, settings.development
    return Policy(
        workers=process.workers,
        max_surge=process.max_surge,
        max_unavailable=process.max_unavailable,
        boot_timeout=process.boot_timeout,
        drain_timeout=process.drain_timeout,
        shutdown_timeout=process.shutdown_timeout,
        kill_grace=process.kill_grace,
        hang_timeout=process.hang_timeout,
        backoff_cap=process.backoff_cap,
        # In development nobody is served meanwhile, and the next save comes soon.
        watch_time=0.0 if development.reload else _WATCH_TIME,
        exit_on_first_failure=not development.reload,
    )
