"""When a stop begins that was asked for."""

from asgi_master.master.lame_duck import LameDuck


def ask(duck, *, quick=False, serves=True, delay=10.0, now=100.0):
    return duck.holds_back(quick=quick, serves=serves, delay=delay, now=now)


def test_the_first_stop_waits():
    duck = LameDuck()
    assert not duck.is_leaving
    assert ask(duck)
    assert duck.is_leaving
    assert duck.until == 110.0
    assert not duck.is_due(109.9)
    assert duck.is_due(110.0)


def test_what_is_due_is_not_held_back_again():
    duck = LameDuck()
    ask(duck)
    assert not ask(duck, now=110.0)
    assert not duck.is_leaving
    assert not duck.is_due(200.0)
    assert not ask(duck, now=111.0)


def test_a_second_stop_ends_the_waiting():
    duck = LameDuck()
    ask(duck)
    assert not ask(duck, now=101.0)
    assert not duck.is_due(200.0)


def test_a_quick_stop_never_waits():
    assert not ask(LameDuck(), quick=True)
    duck = LameDuck()
    ask(duck)
    assert not ask(duck, quick=True, now=101.0)


def test_who_serves_nobody_does_not_wait():
    duck = LameDuck()
    assert not ask(duck, serves=False)
    assert not ask(duck, now=101.0), "the stop is under way"


def test_no_delay():
    assert not ask(LameDuck(), delay=0.0)
