"""When something that repeats is logged."""

from asgi_master.telemetry.rate_limit import RateLimit


def test_once_then_at_most_once_in_a_while_with_the_count():
    limit = RateLimit(60.0)
    assert limit.count("a", 0.0) == 1
    assert [limit.count("a", now) for now in (0.1, 1.0, 59.0)] == [0, 0, 0]
    assert limit.count("a", 60.0) == 4
    assert limit.count("a", 61.0) == 0


def test_one_thing_does_not_silence_another():
    limit = RateLimit(60.0)
    assert limit.count("a", 0.0) == 1
    assert limit.count("b", 0.0) == 1


def test_keys_without_end_take_no_memory_and_old_ones_make_room():
    limit = RateLimit(60.0)
    assert sum(limit.count(key, 0.0) for key in range(1000)) == 256
    assert limit.count(999, 59.0) == 0
    assert limit.count(999, 60.0) == 1
