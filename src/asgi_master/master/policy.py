"""The supervision policy that the settings ask for."""

from asgi_master.settings.model import Settings
from asgi_master.supervision.policy import Policy


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
        shutdown_delay=process.shutdown_delay,
        exit_on_oom=process.on_oom == "exit",
        hang_timeout=process.hang_timeout,
        backoff_cap=process.backoff_cap,
        # In development nobody is served meanwhile, and the next save comes soon.
        watch_time=0.0 if development.reload else process.watch_time,
        max_error_share=process.max_error_share,
        rollback_window=0.0 if development.reload else process.rollback_window,
        spares=process.spares,
        exit_on_first_failure=not development.reload,
    )
