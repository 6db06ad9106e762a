"""When something that repeats is told."""

from asgi_master.telemetry.seldom import Seldom


def test_once_then_at_most_once_in_a_while_with_the_count():
    seldom = Seldom(60.0)
    assert seldom.count("a", 0.0) == 1
    assert [seldom.count("a", now) for now in (0.1, 1.0, 59.0)] == [0, 0, 0]
    assert seldom.count("a", 60.0) == 4
    assert seldom.count("a", 61.0) == 0


def test_one_thing_does_not_silence_another():
    seldom = Seldom(60.0)
    assert seldom.count("a", 0.0) == 1
    assert seldom.count("b", 0.0) == 1
