"""Groups of settings as the small values that other rooms take."""

from dataclasses import dataclass

from asgi_master.settings.fields import same_named


@dataclass
class Settings:
    drain_timeout: float = 30.0
    workers: int = 4
    health_path: str = "/"


@dataclass
class Limits:
    workers: int
    drain_timeout: float
    surge: int = 1


def test_only_the_fields_of_both_are_taken() -> None:
    assert same_named(Limits, Settings(workers=2)) == {"drain_timeout": 30.0, "workers": 2}
