"""Requests become commands; commands become answers."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.control.api import (
    Command,
    Drain,
    Refusal,
    Reload,
    Reply,
    Rollback,
    Scale,
    ShowStacks,
    ShowStatus,
    Stop,
    read_request,
)
from asgi_master.control.commands import execute
from asgi_master.control.pending_replies import (
    PendingReload,
    PendingReply,
    PendingScale,
    PendingStackDumps,
    reply_for,
)
from asgi_master.control.reloads import Outcome, Reloads, Result
from control_server import Recorder


@pytest.fixture
def steering() -> Recorder:
    return Recorder()


@pytest.mark.parametrize(
    ("method", "target", "body", "command"),
    [
        ("GET", "/status", b"", ShowStatus()),
        ("POST", "/reload", b"", Reload(wait=False)),
        ("POST", "/reload?wait=1", b"", Reload(wait=True)),
        ("POST", "/reload?wait", b"", Reload(wait=True)),
        ("POST", "/reload?wait=False", b"", Reload(wait=False)),
        ("POST", "/reload", b'{"wait": true}', Reload(wait=True)),
        ("POST", "/reload", b" \n", Reload(wait=False)),
        ("POST", "/rollback", b"", Rollback(wait=False)),
        ("POST", "/rollback?wait=1", b"", Rollback(wait=True)),
        ("POST", "/scale", b'{"workers": 3}', Scale(3)),
        ("POST", "/scale", b'{"workers": 3, "wait": true}', Scale(3, wait=True)),
        ("POST", "/scale?workers=3", b"", Scale(3)),
        ("POST", "/scale?workers=3", b'{"workers": 4}', Scale(4)),
        ("POST", "/drain", b'{"slot": 0}', Drain(0)),
        ("POST", "/stacks", b"", ShowStacks(None)),
        ("POST", "/stacks?slot=2", b"", ShowStacks(2)),
        ("POST", "/stop", b"", Stop(quick=False)),
        ("POST", "/stop", b'{"quick": true}', Stop(quick=True)),
    ],
)
def test_a_request_is_a_command(method: str, target: str, body: bytes, command: Command) -> None:
    assert read_request(method, target, body) == command


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "why"),
    [
        ("GET", "/", b"", 404, "/status"),
        ("GET", "/statuses", b"", 404, "not found"),
        ("GET", "//status", b"", 404, "not found"),
        ("GET", "http://[", b"", 400, "not a path"),
        ("GET", "/reload", b"", 405, "POST"),
        ("POST", "/status", b"", 405, "GET"),
        ("GET", "/rollback", b"", 405, "POST"),
        ("GET", "/stacks", b"", 405, "POST"),
        ("POST", "/rollback", b'{"to": 3}', 400, "unknown: to"),
        ("HEAD", "/status", b"", 405, "GET"),
        ("POST", "/scale", b"", 400, "workers"),
        ("POST", "/scale", b'{"workers": 0}', 400, "from 1"),
        ("POST", "/scale", b'{"workers": 501}', 400, "to 500"),
        ("POST", "/scale", b'{"workers": 1.5}', 400, "whole number"),
        ("POST", "/scale", b'{"workers": true}', 400, "whole number"),
        ("POST", "/scale", b'{"workers": "\\u0663"}', 400, "whole number"),
        ("POST", "/scale?workers=99999999999999999999999", b"", 400, "whole number"),
        ("POST", "/scale", b'{"workers": 2, "wrokers": 3}', 400, "unknown: wrokers"),
        ("POST", "/scale", b'{"workers": ', 400, "not JSON"),
        ("POST", "/scale", b"\xff", 400, "not JSON"),
        ("POST", "/scale", b"[" * 100_000, 400, "not JSON"),
        ("POST", "/scale", b"[2]", 400, "not a JSON object"),
        ("POST", "/drain", b'{"slot": -1}', 400, "slot"),
        ("POST", "/drain", b"", 400, "slot"),
        ("POST", "/reload?wait=perhaps", b"", 400, "wait"),
        ("POST", "/reload", b'{"wait": 1}', 400, "wait"),
        ("POST", "/stop?&&&=", b"", 400, "unknown"),
        ("POST", "/stop?" + "a&" * 20, b"", 400, "too long"),
        ("GET", "/status?verbose=1", b"", 400, "unknown: verbose"),
    ],
)
def test_what_is_wrong_is_said(method: str, target: str, body: bytes, status: int, why: str) -> None:
    with pytest.raises(Refusal, match=why) as caught:
        read_request(method, target, body)
    assert caught.value.status == status
    assert bool(caught.value.allow) == (status == 405)


@settings(max_examples=200)
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["/status", "/reload", "/rollback", "/scale", "/drain", "/stop", "/stacks", ""]),
    st.text(max_size=20),
    st.one_of(
        st.binary(max_size=20),
        st.dictionaries(
            st.sampled_from(["workers", "slot", "wait", "quick", "x"]), st.from_type(int | str | bool | None)
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_no_request_does_anything_but_be_read_or_refused(
    method: str, path: str, rest: str, body: bytes
) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(read_request(method, path + rest, body), Command)


def test_status_tells_fleet_and_reloads(steering: Recorder) -> None:
    answer = execute(ShowStatus(), steering, Reloads(generation=3, last=Outcome(Result.FAILED, 4, "no", 5.0)))
    assert isinstance(answer, Reply)
    assert answer.status == 200
    shown = json.loads(json.dumps(answer.body))
    assert shown["name"] == "shop"
    assert shown["generation"] == 3
    assert shown["workers"][0]["requests"] == 1000
    assert shown["waiting"] == [{"slot": 1, "retry_in": 2.5, "failures": 3}]
    assert shown["last_reload"] == {"result": "failed", "generation": 4, "message": "no", "at": 5.0}


def test_commands_are_passed_on(steering: Recorder) -> None:
    for command in (Reload(wait=False), Rollback(wait=False), Scale(3), Drain(0), Stop(quick=True)):
        answer = execute(command, steering, Reloads())
        assert isinstance(answer, Reply)
        assert answer.status == 202
    assert steering.asked == [("reload",), ("rollback",), ("scale", 3), ("drain", 0), ("stop", True)]


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (Reload(wait=True), PendingReload),
        (Rollback(wait=True), PendingReload),
        (Scale(3, wait=True), PendingScale),
        (ShowStacks(None), PendingStackDumps),
    ],
)
def test_who_waits_is_answered_later(steering: Recorder, command: Command, kind: type[PendingReply]) -> None:
    assert isinstance(execute(command, steering, Reloads()), kind)


@pytest.mark.parametrize("wait", [True, False])
def test_nothing_to_roll_back_to(steering: Recorder, wait: bool) -> None:
    steering.can_roll_back = False
    with pytest.raises(Refusal, match="nothing to roll back to") as caught:
        execute(Rollback(wait), steering, Reloads())
    assert caught.value.status == 409


def test_bad_settings_answer_at_once(steering: Recorder) -> None:
    steering.errors = ["workers: 0 is too small", "bind: is empty"]
    answer = execute(Reload(wait=True), steering, Reloads())
    assert isinstance(answer, Reply)
    assert answer.status == 422
    assert answer.body["errors"] == steering.errors
    assert "bind: is empty" in answer.body["error"]


@pytest.mark.parametrize("command", [Drain(7), ShowStacks(7)])
def test_a_slot_without_worker(steering: Recorder, command: Command) -> None:
    with pytest.raises(Refusal, match="slot 7") as caught:
        execute(command, steering, Reloads())
    assert caught.value.status == 409


def test_while_stopping_only_looking_and_stopping_is_left(steering: Recorder) -> None:
    steering.stopping = True
    for command in (Reload(wait=True), Rollback(wait=True), Scale(2, wait=True), Drain(0)):
        with pytest.raises(Refusal, match="stopping"):
            execute(command, steering, Reloads())
    for command in (ShowStatus(), ShowStacks(0), Stop(quick=True)):
        assert isinstance(execute(command, steering, Reloads()), Reply | PendingReply)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.COMMITTED, 200),
        (Result.CALLED_OFF, 200),
        (Result.FAILED, 409),
        (Result.SUPERSEDED, 409),
        (Result.REFUSED, 422),
        (Result.STOPPED, 503),
    ],
)
def test_an_outcome_is_an_answer(result: Result, status: int) -> None:
    answer = reply_for(Outcome(result, 2, "what happened", 1.0))
    assert answer.status == status
    assert answer.body["result"] == result
    assert ("error" in answer.body) == (status != 200)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (ShowStatus(), "status"),
        (Reload(wait=True), "reload"),
        (Rollback(wait=True), "rollback"),
        (Scale(2), "scale to 2"),
        (Drain(1), "drain slot 1"),
        (ShowStacks(None), "all stacks"),
        (ShowStacks(0), "the stacks of slot 0"),
        (Stop(quick=False), "stop"),
        (Stop(quick=True), "quick stop"),
    ],
)
def test_commands_have_words_for_the_log(command: Command, words: str) -> None:
    assert str(command) == words
