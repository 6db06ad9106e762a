"""What children may say."""

from typing import get_args

import pytest

from asgi_master.ipc.conduct import WORKER, ZYGOTE, BreachError, Conduct, Role
from asgi_master.ipc.messages import (
    Accept,
    ApplicationImported,
    BecameReady,
    BeganLeaving,
    BootFailed,
    BootWanted,
    Drain,
    Forked,
    ForkFailed,
    ImportFailed,
    Message,
    TasksTold,
    Unknown,
    WantsToLeave,
)

FOR_CHILDREN = {
    "Boot",
    "Fork",
    "Accept",
    "TakeAccessLog",
    "TakeCertificates",
    "TakeHandOff",
    "TakeListeners",
    "Drain",
    "TellTasks",
    "WorkerGone",
}


def conduct(role: Role, *said: Message) -> Conduct:
    made = Conduct(role)
    for message in said:
        made.judge(message, 0.0)
    return made


def test_every_word_is_somebodys():
    words = {kind.__name__ for role in (ZYGOTE, WORKER) for kind in role.once | role.often}
    assert words | FOR_CHILDREN == {kind.__name__ for kind in get_args(Message)}
    assert not words & FOR_CHILDREN


@pytest.mark.parametrize(
    ("role", "life"),
    [
        (ZYGOTE, [BootWanted(), BootWanted(), ApplicationImported(), ForkFailed(1, "no")]),
        (ZYGOTE, [BootWanted(), ImportFailed("why")]),
        (WORKER, [Forked(1), BecameReady(), WantsToLeave("a"), BeganLeaving("b")]),
        (WORKER, [Forked(1), BootFailed("why")]),
    ],
)
def test_ordinary_lives(role, life):
    conduct(role, *life)


@pytest.mark.parametrize(
    ("role", "life", "why"),
    [
        (ZYGOTE, [ApplicationImported()], "said ApplicationImported before BootWanted"),
        (ZYGOTE, [BootWanted(), ImportFailed("a"), ImportFailed("b")], "said ImportFailed twice"),
        (ZYGOTE, [BootWanted(), BecameReady()], "sent BecameReady, which it never sends"),
        (ZYGOTE, [BootWanted(), Drain(1.0, hand_off=True)], "sent Drain, which it never sends"),
        (WORKER, [BecameReady()], "said BecameReady before Forked"),
        (WORKER, [Forked(1), Forked(2)], "said Forked twice"),
        (WORKER, [Forked(1), BecameReady(), BecameReady()], "said BecameReady twice"),
        (WORKER, [Forked(1), BootFailed("a"), BootFailed("b")], "said BootFailed twice"),
        (WORKER, [Forked(1), ForkFailed(2, "")], "sent ForkFailed, which it never sends"),
        (WORKER, [Accept()], "sent Accept, which it never sends"),
    ],
)
def test_what_nobody_of_ours_does(role, life, why):
    with pytest.raises(BreachError, match=why):
        conduct(role, *life)


def test_nobody_talks_without_end():
    talker = conduct(WORKER, Forked(1))
    with pytest.raises(BreachError, match="talks without end"):
        for _ in range(1000):
            talker.judge(WantsToLeave("now"), 0.0)


def test_who_pauses_may_go_on():
    talker = conduct(WORKER, Forked(1))
    for second in range(10_000):
        talker.judge(WantsToLeave("now"), float(second))


def test_who_is_asked_may_answer():
    asked = conduct(WORKER, Forked(1))
    for number in range(1000):
        asked.asked()
        asked.judge(TasksTold(number), 0.0)


def test_a_pause_is_not_saved_up():
    talker = conduct(WORKER, Forked(1))
    with pytest.raises(BreachError):
        for _ in range(100):
            talker.judge(WantsToLeave("now"), 1e6)


def test_who_is_taken_over_has_said_its_first_word():
    taken_over = Conduct(WORKER)
    taken_over.settle()
    taken_over.judge(BecameReady(), 0.0)
    with pytest.raises(BreachError, match="twice"):
        taken_over.judge(Forked(1), 0.0)


@pytest.mark.parametrize("role", [ZYGOTE, WORKER])
def test_a_word_of_a_newer_version_is_passed_over_but_counted(role):
    made = conduct(role, role.first(1) if role is WORKER else role.first())
    made.judge(Unknown("SaysMore"), 0.0)
    with pytest.raises(BreachError, match="talks without end"):
        for _ in range(100):
            made.judge(Unknown("SaysMore"), 0.0)


def test_a_word_of_a_newer_version_is_not_the_first_of_a_child():
    with pytest.raises(BreachError, match="before"):
        conduct(WORKER, Unknown("SaysMore"))
