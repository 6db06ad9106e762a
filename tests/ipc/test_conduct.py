"""What children may say."""

from typing import get_args

import pytest

from asgi_master.ipc.conduct import BASE, SERVICE, WORKER, ZYGOTE, BreachError, Conduct, Sender
from asgi_master.ipc.messages import (
    ApplicationImported,
    ApplicationImportFailed,
    Drain,
    ForkFailed,
    Message,
    ReplacementRequested,
    StartAccepting,
    TasksReported,
    Unknown,
    WorkerBooted,
    WorkerBootFailed,
    WorkerDrainStarted,
    WorkerForked,
    ZygoteStarted,
)

FOR_CHILDREN = {
    "Boot",
    "Fork",
    "ForkService",
    "StartService",
    "StartAccepting",
    "UseAccessLog",
    "UseCertificates",
    "UseHandOff",
    "UseListeners",
    "UsePlace",
    "UsePlaces",
    "TakePlace",
    "Drain",
    "ReportTasks",
    "WorkerReaped",
    "WarmUp",
    "ForkZygote",
}


def conduct(role: Sender, *said: Message) -> Conduct:
    made = Conduct(role)
    for message in said:
        made.judge(message, 0.0)
    return made


def test_every_word_is_somebodys():
    words = {kind.__name__ for role in (BASE, ZYGOTE, WORKER, SERVICE) for kind in role.once | role.often}
    assert words | FOR_CHILDREN == {kind.__name__ for kind in get_args(Message)}
    assert not words & FOR_CHILDREN


@pytest.mark.parametrize(
    ("role", "life"),
    [
        (ZYGOTE, [ZygoteStarted(), ZygoteStarted(), ApplicationImported(), ForkFailed(1, "no")]),
        (ZYGOTE, [ZygoteStarted(), ApplicationImportFailed("why")]),
        (WORKER, [WorkerForked(1), WorkerBooted(), ReplacementRequested("a"), WorkerDrainStarted("b")]),
        (WORKER, [WorkerForked(1), WorkerBootFailed("why")]),
        (SERVICE, [WorkerForked(1), WorkerBooted(), ReplacementRequested("a")]),
    ],
)
def test_ordinary_lives(role, life):
    conduct(role, *life)


@pytest.mark.parametrize(
    ("role", "life", "why"),
    [
        (ZYGOTE, [ApplicationImported()], "sent ApplicationImported before ZygoteStarted"),
        (
            ZYGOTE,
            [ZygoteStarted(), ApplicationImportFailed("a"), ApplicationImportFailed("b")],
            "sent ApplicationImportFailed twice",
        ),
        (ZYGOTE, [ZygoteStarted(), WorkerBooted()], "sent WorkerBooted, which it never sends"),
        (ZYGOTE, [ZygoteStarted(), Drain(1.0, hand_off=True)], "sent Drain, which it never sends"),
        (WORKER, [WorkerBooted()], "sent WorkerBooted before WorkerForked"),
        (WORKER, [WorkerForked(1), WorkerForked(2)], "sent WorkerForked twice"),
        (WORKER, [WorkerForked(1), WorkerBooted(), WorkerBooted()], "sent WorkerBooted twice"),
        (
            WORKER,
            [WorkerForked(1), WorkerBootFailed("a"), WorkerBootFailed("b")],
            "sent WorkerBootFailed twice",
        ),
        (WORKER, [WorkerForked(1), ForkFailed(2, "")], "sent ForkFailed, which it never sends"),
        (WORKER, [StartAccepting()], "sent StartAccepting, which it never sends"),
    ],
)
def test_what_nobody_of_ours_does(role, life, why):
    with pytest.raises(BreachError, match=why):
        conduct(role, *life)


def test_messages_are_bounded():
    talker = conduct(WORKER, WorkerForked(1))
    with pytest.raises(BreachError, match="sends too many messages"):
        for _ in range(1000):
            talker.judge(ReplacementRequested("now"), 0.0)


def test_who_pauses_may_go_on():
    talker = conduct(WORKER, WorkerForked(1))
    for second in range(10_000):
        talker.judge(ReplacementRequested("now"), float(second))


def test_who_is_asked_may_answer():
    asked = conduct(WORKER, WorkerForked(1))
    for number in range(1000):
        asked.asked()
        asked.judge(TasksReported(number), 0.0)


def test_a_pause_is_not_saved_up():
    talker = conduct(WORKER, WorkerForked(1))
    with pytest.raises(BreachError):
        for _ in range(100):
            talker.judge(ReplacementRequested("now"), 1e6)


def test_who_is_taken_over_has_said_its_first_word():
    taken_over = Conduct(WORKER)
    taken_over.settle()
    taken_over.judge(WorkerBooted(), 0.0)
    with pytest.raises(BreachError, match="twice"):
        taken_over.judge(WorkerForked(1), 0.0)


@pytest.mark.parametrize("role", [ZYGOTE, WORKER])
def test_a_word_of_a_newer_version_is_passed_over_but_counted(role):
    made = conduct(role, role.first(1) if role is WORKER else role.first())
    made.judge(Unknown("SaysMore"), 0.0)
    with pytest.raises(BreachError, match="sends too many messages"):
        for _ in range(100):
            made.judge(Unknown("SaysMore"), 0.0)


def test_a_word_of_a_newer_version_is_not_the_first_of_a_child():
    with pytest.raises(BreachError, match="before"):
        conduct(WORKER, Unknown("SaysMore"))
