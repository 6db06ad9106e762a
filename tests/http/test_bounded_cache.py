"""What is kept of what repeats."""

from asgi_master.http.bounded_cache import BoundedCache


def fill(cache: BoundedCache[int, str], count: int) -> list[bool]:
    return [cache.offer(key, str(key)) for key in range(count)]


def test_a_full_cache_keeps_what_it_has() -> None:
    cache: BoundedCache[int, str] = BoundedCache(2)
    assert fill(cache, 4) == [True, True, False, False]
    assert cache == {0: "0", 1: "1"}


def test_after_many_misses_others_are_taken() -> None:
    cache: BoundedCache[int, str] = BoundedCache(2)
    taken = fill(cache, 2 + 2 * 4)
    assert taken == [True, True, *[False] * 7, True]
    assert cache == {9: "9"}
    assert fill(cache, 1) == [True]
