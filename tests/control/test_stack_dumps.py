"""What workers tell when they are asked what they do: gathered, bounded, and never waited for too long."""

from asgi_master.control.stack_dumps import ANSWER_TIMEOUT, PendingWorker, StackDumpRequest, StackDumpRequests
from asgi_master.ipc.messages import TaskGroup, TasksReported

NOW = 100.0
GROUP = TaskGroup(count=3, coroutine="app")


def begin(requests: StackDumpRequests, *workers: int, pid: int | None = 7) -> StackDumpRequest:
    return requests.begin([PendingWorker(worker, worker, 1, pid) for worker in workers], NOW)


def test_it_is_over_when_all_have_answered() -> None:
    requests = StackDumpRequests()
    request = begin(requests, 1, 0)
    for worker in (1, 0):
        assert not request.poll(NOW)
        requests.record_tasks(worker, TasksReported(request.number, 5, [GROUP], "Thread"), NOW)
    assert request.poll(NOW)
    assert [dump.slot for dump in request.results()] == [0, 1]
    dump = request.results()[0]
    assert (dump.task_count, dump.tasks, dump.tasks_left_out) == (5, [GROUP], 2)
    assert (dump.threads, dump.note) == ("Thread", "")


def test_a_loop_that_does_not_run_tells_nothing() -> None:
    requests = StackDumpRequests()
    request = begin(requests, 0)
    requests.record_threads(0, "Thread", NOW)
    assert not request.poll(NOW + 0.9 * ANSWER_TIMEOUT)
    assert request.poll(NOW + ANSWER_TIMEOUT)
    (dump,) = request.results()
    assert (dump.tasks, dump.task_count, dump.threads) == (None, None, "Thread")
    assert "did not answer within 1 s" in dump.note


def test_who_is_silent_is_asked_past_its_loop_once() -> None:
    requests = StackDumpRequests()
    request = begin(requests, 0, 1, 2)
    assert requests.take_unresponsive(NOW) == set()
    requests.record_tasks(1, TasksReported(request.number, 1, []), NOW)
    requests.record_exit(2, NOW)
    assert requests.take_unresponsive(NOW + 0.5 * ANSWER_TIMEOUT) == {0}
    assert requests.take_unresponsive(NOW + 0.5 * ANSWER_TIMEOUT) == set()
    requests.record_threads(0, "Stack", NOW)
    assert request.poll(NOW + ANSWER_TIMEOUT)
    assert "its tasks and other threads are not known" in request.results()[0].note
    assert requests.take_unresponsive(NOW + ANSWER_TIMEOUT) == set()


def test_a_stopped_process_tells_nothing_at_all() -> None:
    request = begin(StackDumpRequests(), 0)
    assert request.poll(NOW + ANSWER_TIMEOUT)
    (dump,) = request.results()
    assert (dump.tasks, dump.threads) == (None, None)
    assert "stacks" in dump.note


def test_workers_that_cannot_answer_are_not_waited_for() -> None:
    requests = StackDumpRequests()
    unborn = begin(requests, 0, pid=None)
    assert unborn.poll(NOW)
    assert "not started" in unborn.results()[0].note
    dying = begin(requests, 0)
    assert not dying.poll(NOW)
    requests.record_exit(0, NOW)
    assert dying.poll(NOW)
    assert "has ended" in dying.results()[0].note


def test_what_comes_later_is_not_the_answer() -> None:
    requests = StackDumpRequests()
    late = begin(requests, 0)
    requests.record_threads(0, "early", NOW)
    assert not requests.record_threads(0, "late", NOW + ANSWER_TIMEOUT)
    requests.record_tasks(0, TasksReported(late.number, 1, []), NOW + ANSWER_TIMEOUT)
    assert (late.results()[0].threads, late.results()[0].tasks) == ("early", None)


def test_the_tasks_of_an_earlier_question_are_not_an_answer() -> None:
    requests = StackDumpRequests()
    first = begin(requests, 0)
    second = begin(requests, 0)
    requests.record_threads(0, "Thread", NOW)
    requests.record_tasks(0, TasksReported(first.number, 1, []), NOW)
    assert first.poll(NOW)
    assert not second.poll(NOW)
    requests.record_tasks(0, TasksReported(second.number, 2, []), NOW)
    assert second.poll(NOW)
    assert [one.results()[0].task_count for one in (first, second)] == [1, 2]
    # A request that arrives while stacks are being collected gets them too.
    assert [one.results()[0].threads for one in (first, second)] == ["Thread", "Thread"]


def test_unrequested_stacks_go_to_the_log() -> None:
    requests = StackDumpRequests()
    assert not requests.record_threads(0, "by hand", NOW)
    request = begin(requests, 0)
    assert not requests.record_threads(1, "of another", NOW)
    requests.ordered_for_log(0, NOW)
    assert not requests.record_threads(0, "of a hang", NOW)
    assert request.results()[0].threads == "of a hang"


def test_it_is_bounded() -> None:
    requests = StackDumpRequests()
    request = begin(requests, *range(500))
    assert request.limit * 500 <= 4 * 1024 * 1024
    for _ in range(100):
        requests.record_threads(0, "x" * 1000, NOW)
    assert len(request.results()[0].threads or "") == request.limit
    assert begin(requests, 0).limit == 64 * 1024
