import asyncio
import contextlib
import contextvars
import logging
import sys
import traceback

import pytest
import uvloop

from asgi_master.errors import ApplicationError
from asgi_master.worker.lifespan import Lifespan, StartupFailedError


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    def run(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 20))

    return run


@pytest.fixture(autouse=True)
def heard(caplog):
    """What is logged; the logger of this process may have been configured by other tests."""
    logger = logging.getLogger("asgi_master")
    before = logger.propagate, logger.level
    logger.propagate, logger.level = True, logging.DEBUG
    caplog.set_level(logging.DEBUG, "asgi_master")
    yield caplog
    logger.propagate, logger.level = before


def lifespan(app, mode="auto", startup_timeout=10.0, shutdown_timeout=10.0):
    return Lifespan(app, mode, startup_timeout=startup_timeout, shutdown_timeout=shutdown_timeout)


def errors(heard):
    return [record for record in heard.records if record.levelno >= logging.WARNING]


async def start_and_stop(span):
    await span.start()
    await span.stop()
    return span


class Good:
    """Does all that the specification asks for, and remembers it."""

    def __init__(self):
        self.seen = []

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.seen.append((await receive())["type"])
        scope["state"]["db"] = "open"
        await send({"type": "lifespan.startup.complete"})
        self.seen.append((await receive())["type"])
        self.seen.append(scope["state"]["db"])
        await send({"type": "lifespan.shutdown.complete"})
        self.seen.append("returned")


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_whole_life(run, heard, mode):
    app = Good()
    span = run(start_and_stop(lifespan(app, mode)))
    assert app.seen == ["lifespan.startup", "lifespan.shutdown", "open", "returned"]
    assert app.scope["type"] == "lifespan"
    assert app.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert app.scope["state"] is span.state
    assert span.supported
    assert not errors(heard)


def test_off_calls_nothing(run):
    app = Good()
    span = run(start_and_stop(lifespan(app, "off")))
    assert app.seen == []
    assert not span.supported
    assert span.state == {}


async def raises_at_once(scope, receive, send):
    assert scope["type"] == "http"


async def returns_at_once(scope, receive, send):
    if scope["type"] != "http":
        return


async def answers_http(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def reads_then_answers_http(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def returns_without_an_answer(scope, receive, send):
    await receive()


def takes_too_little(scope):
    pass


@pytest.mark.parametrize(
    "app",
    [
        raises_at_once,
        returns_at_once,
        answers_http,
        reads_then_answers_http,
        returns_without_an_answer,
        takes_too_little,
    ],
)
def test_an_application_without_lifespan_is_served_in_auto_and_refused_in_on(run, heard, app):
    assert not run(start_and_stop(lifespan(app))).supported
    assert not errors(heard)
    with pytest.raises(ApplicationError, match="does not support lifespan, but it is on") as caught:
        run(start_and_stop(lifespan(app, "on")))
    assert "\n" not in str(caught.value)


async def raises_after_receive(scope, receive, send):
    await receive()
    raise ValueError("no database\nanywhere")


async def tells_failure(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def tells_failure_and_raises(scope, receive, send):
    # As Starlette does it: the whole traceback is the message.
    await receive()
    await send(
        {
            "type": "lifespan.startup.failed",
            "message": "Traceback (most recent call last):\n  ...\nValueError: no database\n",
        }
    )
    raise ValueError("no database")


async def tells_a_traceback(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback:\n  x\nValueError: no database"})


async def tells_a_group_and_raises_it(scope, receive, send):
    # As Litestar does it.
    async def fail():
        raise ValueError("no database")

    await receive()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    except BaseException:
        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
        raise


async def tells_a_group(scope, receive, send):
    with contextlib.suppress(BaseExceptionGroup):
        await tells_a_group_and_raises_it(scope, receive, send)


async def raises_a_group(scope, receive, send):
    await receive()
    raise ExceptionGroup("several", [LookupError("one"), ExceptionGroup("more", [ValueError("two")])])


GROUP = "ExceptionGroup: several (2 sub-exceptions): LookupError: one; ValueError: two"


async def tells_failure_and_waits_for_more(scope, receive, send):
    while True:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})


async def tells_failure_without_reason(scope, receive, send):
    await send({"type": "lifespan.startup.failed"})


async def exits(scope, receive, send):
    await receive()
    sys.exit("no database")


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("app", "line", "cause"),
    [
        (raises_after_receive, "lifespan startup failed: ValueError: no database anywhere", ValueError),
        (tells_failure, "lifespan startup failed: no database", None),
        (tells_failure_and_raises, "lifespan startup failed: ValueError: no database", ValueError),
        (tells_a_traceback, "lifespan startup failed: ValueError: no database", StartupFailedError),
        (tells_a_group_and_raises_it, "lifespan startup failed: ValueError: no database", ExceptionGroup),
        (tells_a_group, "lifespan startup failed: ValueError: no database", StartupFailedError),
        (raises_a_group, f"lifespan startup failed: {GROUP}", ExceptionGroup),
        (tells_failure_and_waits_for_more, "lifespan startup failed: no database", None),
        (tells_failure_without_reason, "lifespan startup failed: no reason given", None),
        (exits, "lifespan startup failed: SystemExit: no database", SystemExit),
    ],
)
def test_a_startup_that_fails_is_fatal_and_says_why(run, app, mode, line, cause):
    span = lifespan(app, mode)
    with pytest.raises(ApplicationError) as caught:
        run(span.start())
    assert str(caught.value) == line
    assert type(caught.value.__cause__) is (cause or type(None))
    assert not span.supported


async def hangs_in_startup(scope, receive, send):
    await receive()
    await asyncio.Event().wait()


async def ignores_cancellation(scope, receive, send):
    while True:
        try:
            await receive()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if scope["state"].setdefault("asked", 0):
                raise
            scope["state"]["asked"] += 1


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("app", [hangs_in_startup, ignores_cancellation])
def test_a_startup_that_hangs_is_ended(run, app, mode):
    with pytest.raises(ApplicationError, match=r"lifespan startup did not finish within 0\.01 s"):
        run(lifespan(app, mode, startup_timeout=0.01).start())


def test_the_cause_of_a_startup_that_hangs_names_the_place(run):
    with pytest.raises(ApplicationError) as caught:
        run(lifespan(hangs_in_startup, startup_timeout=0.01).start())
    traceback = caught.value.__cause__.__traceback__
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "hangs_in_startup" in names


@pytest.mark.parametrize("ending", ["raise", "return", "exit"])
def test_an_application_that_leaves_early_is_still_served(run, heard, ending):
    left = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        left.set()
        if ending == "raise":
            raise ValueError("background task died")
        if ending == "exit":
            sys.exit(1)

    async def main():
        span = lifespan(app, "on")
        await span.start()
        await left.wait()
        await span.stop()
        assert span.supported

    run(main())
    assert [record.getMessage() for record in errors(heard)] == {
        "raise": ["the application's lifespan ended early: ValueError: background task died"],
        "exit": ["the application's lifespan ended early: SystemExit: 1"],
        "return": [],
    }[ending]
    assert all(record.exc_info for record in errors(heard))


async def tells_its_traceback_and_raises(send):
    # As Starlette does it, whenever the body of its lifespan raises.
    try:
        raise ConnectionError("the consumer lost its broker")
    except ConnectionError:
        await send({"type": "lifespan.shutdown.failed", "message": traceback.format_exc()})
        raise


async def tells_a_group_of_two_and_raises(send):
    try:
        raise ExceptionGroup("two", [LookupError("one"), ValueError("two")])
    except ExceptionGroup:
        await send({"type": "lifespan.shutdown.failed", "message": traceback.format_exc()})
        raise


async def tells_its_reason_and_returns(send):
    await send({"type": "lifespan.shutdown.failed", "message": "the consumer lost its broker"})


async def tells_its_reason_and_stays(send):
    await tells_its_reason_and_returns(send)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (tells_its_traceback_and_raises, "ConnectionError: the consumer lost its broker"),
        (
            tells_a_group_of_two_and_raises,
            "ExceptionGroup: two (2 sub-exceptions): LookupError: one; ValueError: two",
        ),
        (tells_its_reason_and_returns, "the consumer lost its broker"),
        (tells_its_reason_and_stays, "the consumer lost its broker"),
    ],
)
def test_an_application_that_says_why_it_ends_early_is_taken_at_its_word(run, heard, end, why):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await end(send)

    run(start_and_stop(lifespan(app)))
    (record,) = errors(heard)
    assert record.getMessage() == f"the application's lifespan ended early: {why}"


def after_startup(rest):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await rest(receive, send)

    return app


async def tells_shutdown_failure(receive, send):
    await send({"type": "lifespan.shutdown.failed", "message": "Traceback:\nValueError: cannot close\n"})


async def tells_shutdown_failure_and_raises(receive, send):
    await send({"type": "lifespan.shutdown.failed", "message": "cannot close"})
    raise ValueError("cannot close")


async def raises_in_shutdown(receive, send):
    raise ValueError("cannot close")


async def raises_after_shutdown(receive, send):
    await send({"type": "lifespan.shutdown.complete"})
    raise ValueError("cannot close")


async def hangs_in_shutdown(receive, send):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (tells_shutdown_failure, "lifespan shutdown failed: ValueError: cannot close"),
        (tells_shutdown_failure_and_raises, "lifespan shutdown failed: cannot close"),
        (raises_in_shutdown, "lifespan shutdown failed: ValueError: cannot close"),
        (raises_after_shutdown, "lifespan shutdown failed: ValueError: cannot close"),
        (hangs_in_shutdown, "lifespan shutdown did not finish within 0.05 s"),
    ],
)
def test_a_shutdown_that_goes_wrong_is_told_once_and_raises_nothing(run, heard, rest, message):
    run(start_and_stop(lifespan(after_startup(rest), shutdown_timeout=0.05)))
    assert [record.getMessage() for record in errors(heard)] == [message]


async def waits_for_more(receive, send):
    await send({"type": "lifespan.shutdown.complete"})
    await receive()
    raise AssertionError("there is no more")


async def leaves_without_a_word(receive, send):
    pass


@pytest.mark.parametrize("rest", [waits_for_more, leaves_without_a_word])
def test_a_shutdown_with_an_odd_end_is_fine(run, heard, rest):
    run(start_and_stop(lifespan(after_startup(rest))))
    assert not errors(heard)


def test_what_follows_shutdown_complete_may_still_finish(run):
    seen = []

    async def rest(receive, send):
        await send({"type": "lifespan.shutdown.complete"})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append("closed")

    run(start_and_stop(lifespan(after_startup(rest))))
    assert seen == ["closed"]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
        {"type": "http.response.start"},
        {},
    ],
)
def test_what_may_not_be_sent_raises_in_the_application(run, heard, message):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        with pytest.raises(RuntimeError, match="sent while the lifespan is started"):
            await send(message)
        scope["state"]["went_on"] = True
        await receive()

    assert run(start_and_stop(lifespan(app))).state == {"went_on": True}
    assert not errors(heard)


def test_stop_before_start_does_nothing(run):
    run(lifespan(Good()).stop())


def test_startup_and_shutdown_share_one_task_and_context(run):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def app(scope, receive, send):
        await receive()
        variable.set("set")
        task = asyncio.current_task()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        seen.extend([variable.get(), asyncio.current_task() is task])

    run(start_and_stop(lifespan(app)))
    assert seen == ["set", True]


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "quart", "litestar"])
@pytest.mark.parametrize("outcome", ["works", "fails"])
def test_real_frameworks(run, heard, framework, outcome):
    seen = []

    def opened():
        if outcome == "fails":
            raise ValueError("no database")
        seen.append("opened")

    span = lifespan(FRAMEWORKS[framework](opened, lambda: seen.append("closed")), "on")
    if outcome == "works":
        run(start_and_stop(span))
        assert seen == ["opened", "closed"]
        assert not errors(heard)
    else:
        with pytest.raises(ApplicationError, match=r"lifespan startup failed: .*no database") as caught:
            run(span.start())
        assert caught.value.__cause__ is not None or framework == "quart"


def starlette(opened, closed):
    from starlette.applications import Starlette

    @contextlib.asynccontextmanager
    async def life(app):
        opened()
        yield
        closed()

    return Starlette(lifespan=life)


def fastapi(opened, closed):
    from fastapi import FastAPI

    @contextlib.asynccontextmanager
    async def life(app):
        opened()
        yield
        closed()

    return FastAPI(lifespan=life)


def quart(opened, closed):
    from quart import Quart

    app = Quart("app")
    app.before_serving(opened)
    app.after_serving(closed)
    return app


def litestar(opened, closed):
    from litestar import Litestar

    return Litestar([], on_startup=[opened], on_shutdown=[closed], logging_config=None)


FRAMEWORKS = {"starlette": starlette, "fastapi": fastapi, "quart": quart, "litestar": litestar}


def test_django_has_none(run):
    import django
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.utils.functional import empty

    # Its settings are those of the process, and other tests have their own.
    others, settings._wrapped = settings._wrapped, empty
    try:
        settings.configure(LOGGING_CONFIG=None)
        django.setup()
        assert not run(start_and_stop(lifespan(ASGIHandler()))).supported
    finally:
        settings._wrapped = others
