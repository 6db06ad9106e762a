"""What workers tell when they are asked what they do: gathered, bounded, and never waited for too long."""

from asgi_master.control.stacks import PATIENCE, Asked, Inquiries, Inquiry
from asgi_master.ipc.messages import TasksTold

NOW = 100.0
GROUP = {"count": 3, "coroutine": "app", "names": [], "serves": [], "more_served": 0, "stack": []}


def begin(inquiries: Inquiries, *workers: int, pid: int | None = 7) -> Inquiry:
    return inquiries.begin([Asked(worker, worker, 1, pid) for worker in workers], NOW)


def test_it_is_over_when_all_have_answered() -> None:
    inquiries = Inquiries()
    inquiry = begin(inquiries, 1, 0)
    for worker in (1, 0):
        assert not inquiry.look(NOW)
        inquiries.tasks_told(worker, TasksTold(inquiry.number, 5, [GROUP], "Thread"), NOW)
    assert inquiry.look(NOW)
    assert [found.slot for found in inquiry.found()] == [0, 1]
    found = inquiry.found()[0]
    assert (found.task_count, found.tasks, found.tasks_left_out) == (5, [GROUP], 2)
    assert (found.threads, found.note) == ("Thread", "")


def test_a_loop_that_does_not_run_tells_nothing() -> None:
    inquiries = Inquiries()
    inquiry = begin(inquiries, 0)
    inquiries.threads_told(0, "Thread", NOW)
    assert not inquiry.look(NOW + 0.9 * PATIENCE)
    assert inquiry.look(NOW + PATIENCE)
    (found,) = inquiry.found()
    assert (found.tasks, found.task_count, found.threads) == (None, None, "Thread")
    assert "did not answer within 1 s" in found.note


def test_who_is_silent_is_asked_past_its_loop_once() -> None:
    inquiries = Inquiries()
    inquiry = begin(inquiries, 0, 1, 2)
    assert inquiries.silent(NOW) == set()
    inquiries.tasks_told(1, TasksTold(inquiry.number, 1, []), NOW)
    inquiries.gone(2, NOW)
    assert inquiries.silent(NOW + 0.5 * PATIENCE) == {0}
    assert inquiries.silent(NOW + 0.5 * PATIENCE) == set()
    inquiries.threads_told(0, "Stack", NOW)
    assert inquiry.look(NOW + PATIENCE)
    assert "its tasks and other threads are not known" in inquiry.found()[0].note
    assert inquiries.silent(NOW + PATIENCE) == set()


def test_a_stopped_process_tells_nothing_at_all() -> None:
    inquiry = begin(Inquiries(), 0)
    assert inquiry.look(NOW + PATIENCE)
    (found,) = inquiry.found()
    assert (found.tasks, found.threads) == (None, None)
    assert "stacks" in found.note


def test_nobody_waits_for_those_that_cannot_answer() -> None:
    inquiries = Inquiries()
    unborn = begin(inquiries, 0, pid=None)
    assert unborn.look(NOW)
    assert "not begun" in unborn.found()[0].note
    dying = begin(inquiries, 0)
    assert not dying.look(NOW)
    inquiries.gone(0, NOW)
    assert dying.look(NOW)
    assert "has ended" in dying.found()[0].note


def test_what_comes_later_is_not_the_answer() -> None:
    inquiries = Inquiries()
    late = begin(inquiries, 0)
    inquiries.threads_told(0, "early", NOW)
    assert not inquiries.threads_told(0, "late", NOW + PATIENCE)
    inquiries.tasks_told(0, TasksTold(late.number, 1, []), NOW + PATIENCE)
    assert (late.found()[0].threads, late.found()[0].tasks) == ("early", None)


def test_the_tasks_of_an_earlier_question_are_not_an_answer() -> None:
    inquiries = Inquiries()
    first = begin(inquiries, 0)
    second = begin(inquiries, 0)
    inquiries.threads_told(0, "Thread", NOW)
    inquiries.tasks_told(0, TasksTold(first.number, 1, []), NOW)
    assert first.look(NOW)
    assert not second.look(NOW)
    inquiries.tasks_told(0, TasksTold(second.number, 2, []), NOW)
    assert second.look(NOW)
    assert [one.found()[0].task_count for one in (first, second)] == [1, 2]
    # Whoever asks while stacks come anyway gets them too.
    assert [one.found()[0].threads for one in (first, second)] == ["Thread", "Thread"]


def test_stacks_nobody_asked_for_go_to_the_log() -> None:
    inquiries = Inquiries()
    assert not inquiries.threads_told(0, "by hand", NOW)
    inquiry = begin(inquiries, 0)
    assert not inquiries.threads_told(1, "of another", NOW)
    inquiries.ordered_for_log(0, NOW)
    assert not inquiries.threads_told(0, "of a hang", NOW)
    assert inquiry.found()[0].threads == "of a hang"


def test_it_is_bounded() -> None:
    inquiries = Inquiries()
    inquiry = begin(inquiries, *range(500))
    assert inquiry.limit * 500 <= 4 * 1024 * 1024
    for _ in range(100):
        inquiries.threads_told(0, "x" * 1000, NOW)
    assert len(inquiry.found()[0].threads or "") == inquiry.limit
    assert begin(inquiries, 0).limit == 64 * 1024
