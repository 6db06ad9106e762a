"""The supervision policy that the settings ask for."""

from dataclasses import replace

from asgi_master.settings.fields import same_named
from asgi_master.settings.model import Settings
from asgi_master.settings.services import parse_service
from asgi_master.supervision.policy import Policy

_PAUSE = 5.0
"""Seconds that requests wait for changed code at most, before the code before it serves them."""


def policy_of(settings: Settings) -> Policy:
    """The policy by the process settings of the same names, and by some that say it in another way."""
    process, development = settings.process, settings.development
    policy = Policy(
        **same_named(Policy, process),
        **same_named(Policy, settings.services),
        services=tuple(parse_service(text).name for text in settings.services.service),
        sticky_drain=settings.affinity.sticky_drain if settings.affinity.sticky else 0.0,
        exit_on_oom=process.on_oom == "exit",
        exit_on_first_failure=not development.reload,
    )
    # In development no clients depend on the old code, and the next save comes soon.
    if not development.reload:
        return policy
    return replace(policy, watch_time=0.0, rollback_window=0.0, pause_on_reload=_PAUSE)
