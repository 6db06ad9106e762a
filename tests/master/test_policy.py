"""The supervision policy that settings ask for."""

from dataclasses import replace

from asgi_master.master.policy import policy_of
from asgi_master.settings.model import Settings
from asgi_master.supervision.policy import Policy


def test_defaults_are_those_of_the_settings() -> None:
    assert policy_of(Settings()) == Policy()


def test_in_production_new_code_is_watched_and_old_code_is_held():
    policy = policy_of(Settings())
    assert (policy.watch_time, policy.rollback_window, policy.max_error_share) == (1.0, 300.0, 20)
    assert policy.exit_on_first_failure


def test_in_development_it_is_not():
    settings = Settings()
    policy = policy_of(replace(settings, development=replace(settings.development, reload=True)))
    assert (policy.watch_time, policy.rollback_window) == (0.0, 0.0)
    assert not policy.exit_on_first_failure


def test_spares_are_asked_for():
    settings = Settings()
    assert policy_of(replace(settings, process=replace(settings.process, spares=2))).spares == 2
