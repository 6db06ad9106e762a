import json
import os
import pty
import re
import socket
import subprocess
import sys
import time

import pytest

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+0000 (?P<level>[A-Z]+) +(?P<who>[a-z]+( \d+)?( gen \d+)?) "
    r"\[(?P<pid>\d+)\]  (?P<message>.*)"
)


def lines(text):
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return [match.groupdict() for match in matches]


def test_a_text_line_names_time_level_process_and_message(run):
    done = run("""
        configure("worker", worker=3, generation=7)
        log.warning("hello %s", "world")
        print(os.getpid())
    """)
    assert lines(done.stderr) == [
        {"level": "WARNING", "who": "worker 3 gen 7", "pid": done.stdout.strip(), "message": "hello world"}
    ]


@pytest.mark.parametrize(
    ("place", "who"), [("'master'", "master"), ("'zygote', generation=2", "zygote gen 2")]
)
def test_only_what_a_process_has_is_named(run, place, who):
    assert lines(run(f"configure({place}); log.info('x')").stderr)[0]["who"] == who


def test_records_below_the_level_are_dropped_ours_and_the_applications(run):
    done = run("""
        configure(level="warning")
        for logger in (log, logging.getLogger("shop.cart")):
            logger.info("quiet")
            logger.warning("loud")
    """)
    assert [line["message"] for line in lines(done.stderr)] == ["loud", "shop.cart: loud"]


def test_the_applications_info_is_shown_at_level_info(run):
    done = run("configure(); logging.getLogger('shop').info('open')")
    assert [line["message"] for line in lines(done.stderr)] == ["shop: open"]


def test_what_a_client_sent_cannot_forge_a_line_or_reach_the_terminal(run):
    done = run(r"""
        configure()
        log.info("path %s", "/a\r\n2026-11-23 00:00:00.000 +0000 INFO  master [1]  forged \x1b[2J\x9b\x00\u2028\ttab é")
    """)
    (line,) = lines(done.stderr)
    assert line["message"] == (
        "path /a\\r\\n2026-11-23 00:00:00.000 +0000 INFO  master [1]  forged \\x1b[2J\\x9b\\x00\\u2028\ttab é"
    )


def test_tracebacks_and_details_follow_indented(run):
    done = run(r"""
        configure()
        try:
            raise ValueError("bad\n2026-11-23 00:00:00.000 +0000 INFO  master [1]  forged\x1b[2J")
        except ValueError:
            log.exception("failed")
        log.error("worker said", extra={"detail": "Traceback:\n  line\n"})
    """)
    first, *rest = done.stderr.splitlines()
    assert lines(first)[0]["message"] == "failed"
    assert rest[0] == "  Traceback (most recent call last):"
    assert "  ValueError: bad" in rest
    assert rest[-4].endswith("forged\\x1b[2J")
    assert rest[-4].startswith("      2026"), "further in than what Python says itself"
    assert lines(rest[-3])[0]["message"] == "worker said"
    assert rest[-2:] == ["  Traceback:", "    line"]


def test_json_is_one_object_a_record(run):
    done = run(r"""
        configure("worker", format="json", worker=0, generation=7)
        log.warning("two\nlines %s", "é")
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("shop").exception("failed", extra={"detail": "more"})
    """)
    first, second = map(json.loads, done.stderr.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first.pop("ts"))
    assert first.pop("pid") > 0
    assert first == {
        "level": "warning",
        "logger": "asgi_master",
        "message": "two\nlines é",
        "role": "worker",
        "worker": 0,
        "generation": 7,
    }
    assert second["logger"] == "shop"
    exception = second["exception"]
    assert exception["type"] == "ValueError"
    assert exception["message"] == "bad"
    (frame,) = exception["frames"]
    assert (frame["file"], frame["function"], frame["application"]) == ("<string>", "<module>", True)
    assert exception["text"].startswith("Traceback (most recent call last):\n")
    assert exception["text"].endswith("\nValueError: bad")
    assert second["detail"] == "more"


def on_a_terminal(command, env):
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:
            pass  # how Linux tells that the other side of a terminal is closed
        assert process.wait(30) == 0
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_levels_have_colours_on_a_terminal_only(program, environment, variables, coloured):
    shown = on_a_terminal(program("configure(); log.error('x')"), environment(**variables))
    assert ("\x1b[31mERROR" in shown) is coloured
    assert LINE.fullmatch(re.sub(r"\x1b\[\d*m", "", shown.strip()))


def test_the_journal_gets_priorities_on_each_line_and_no_time(run):
    ours, theirs = socket.socketpair()
    status = os.fstat(theirs.fileno())
    with ours, theirs:
        run(
            r"""
            configure("master", level="debug")
            log.debug("d"); log.info("i"); log.warning("w"); log.critical("c")
            log.error("e", extra={"detail": "one\ntwo"})
            """,
            env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
            stderr=theirs,
        )
        theirs.close()
        text = ours.makefile().read()
    assert re.sub(r"\[\d+\]", "[]", text).splitlines() == [
        "<7>DEBUG   master []  d",
        "<6>INFO    master []  i",
        "<4>WARNING master []  w",
        "<2>CRITICAL master []  c",
        "<3>ERROR   master []  e",
        "<3>  one",
        "<3>  two",
    ]


def test_a_stream_that_is_not_the_journal_gets_none_of_that(run):
    done = run("configure(); log.info('x')", env={"JOURNAL_STREAM": "1:2"})
    assert lines(done.stderr)


def test_configured_again_in_a_forked_worker_each_record_comes_once_under_its_own_name(run):
    done = run("""
        configure("zygote", generation=7)
        child = os.fork()
        if child == 0:
            configure("worker", worker=0, generation=7, level="debug")
            log.debug("child")
            logging.getLogger("shop").info("child")
            os._exit(0)
        os.waitpid(child, 0)
        log.info("parent")
        print(len(os.listdir("/proc/self/fd")))
        for _ in range(20):
            configure("zygote", generation=7)
        print(len(os.listdir("/proc/self/fd")))
    """)
    assert [(line["who"], line["message"]) for line in lines(done.stderr)] == [
        ("worker 0 gen 7", "child"),
        ("worker 0 gen 7", "shop: child"),
        ("zygote gen 7", "parent"),
    ]
    before, after = done.stdout.split()
    assert before == after


def test_configured_again_it_keeps_the_handler_that_would_come_to_the_same(run):
    done = run("""
        configure("zygote", generation=7)
        first = logging.lastResort
        configure("worker", worker=0, generation=7)
        print(logging.lastResort is first)
        configure("worker", format="json", worker=0, generation=7)
        print(logging.lastResort is first)
        logging.getLogger("asgi_master").handlers.clear()
        configure("worker", format="json", worker=0, generation=7)
        log.info("still heard")
    """)
    assert done.stdout.split() == ["True", "False"]
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["still heard"]


def test_configured_again_it_follows_standard_error_to_where_the_import_led_it(run, tmp_path):
    path = tmp_path / "log"
    done = run(f"""
        configure("zygote", generation=7)
        os.dup2(os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT), 2)
        configure("worker", worker=0, generation=7)
        log.info("here")
    """)
    assert done.stderr == ""
    assert [line["message"] for line in lines(path.read_text())] == ["here"]


@pytest.mark.parametrize(
    "own",
    [
        "logging.basicConfig(format='own %(message)s')",
        """logging.config.dictConfig({
            "version": 1,
            "formatters": {"own": {"format": "own %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
            "root": {"handlers": ["own"], "level": "INFO"},
        })""",
    ],
)
def test_logging_that_the_application_sets_up_holds_for_it_and_leaves_ours(run, own):
    done = run(f"""
        import logging.config
        configure("zygote", generation=1)
        {own}
        def tell():
            log.info("ours")
            logging.getLogger("shop").info("theirs")
        tell()
        configure("worker", worker=0, generation=1)
        tell()
    """)
    first, second, third, fourth = done.stderr.splitlines()
    assert (second, fourth) == ("own theirs", "own theirs")
    assert [line["who"] for line in lines(f"{first}\n{third}")] == ["zygote gen 1", "worker 0 gen 1"]


def test_the_level_that_the_application_chose_survives_the_fork(run):
    done = run("""
        configure("zygote", generation=1)
        logging.getLogger().setLevel("ERROR")
        configure("worker", worker=0, generation=1)
        logging.getLogger("shop").info("not shown")
    """)
    assert done.stderr == ""


def test_words_of_ours_stay_free_for_the_application(run, tmp_path):
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(CONFIG))
    done = run(f"""
        configure("worker", worker=0, log_config={str(path)!r})
        logging.getLogger("shop").info("x", extra={{"worker": "Joe", "role": "cook"}})
    """)
    assert done.stderr == "mine cook Joe - shop x\n"


CONFIG = {
    "version": 1,
    "formatters": {"mine": {"format": "mine %(role)s %(worker)s %(generation)s %(name)s %(message)s"}},
    "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine"}},
    "root": {"handlers": ["mine"], "level": "INFO"},
}
TOML = """
version = 1
formatters.mine.format = "mine %(role)s %(worker)s %(generation)s %(name)s %(message)s"
handlers.mine = { class = "logging.StreamHandler", formatter = "mine" }
root = { handlers = ["mine"], level = "INFO" }
"""
YAML = """
formatters:
  mine: {format: "mine %(role)s %(worker)s %(generation)s %(name)s %(message)s"}
handlers:
  mine: {class: logging.StreamHandler, formatter: mine}
root: {handlers: [mine], level: INFO}
"""
INI = """
[loggers]
keys = root
[handlers]
keys = mine
[formatters]
keys = mine
[logger_root]
level = INFO
handlers = mine
[handler_mine]
class = StreamHandler
args = ()
formatter = mine
[formatter_mine]
format = mine %(role)s %(worker)s %(generation)s %(name)s %(message)s
"""


@pytest.mark.parametrize(
    ("suffix", "text"),
    [("json", json.dumps(CONFIG)), ("toml", TOML), ("yaml", YAML), ("yml", YAML), ("ini", INI)],
)
def test_a_configuration_of_the_operators_gets_everything_in_every_process(run, tmp_path, suffix, text):
    path = tmp_path / f"logging.{suffix}"
    path.write_text(text)
    done = run(f"""
        configure("zygote", log_config={str(path)!r}, generation=1)
        shop = logging.getLogger("shop")
        def tell():
            log.info("ours")
            log.debug("too quiet")
            shop.info("theirs")
        tell()
        configure("worker", log_config={str(path)!r}, worker=0, generation=1)
        tell()
    """)
    assert done.stderr.splitlines() == [
        "mine zygote - 1 asgi_master ours",
        "mine zygote - 1 shop theirs",
        "mine worker 0 1 asgi_master ours",
        "mine worker 0 1 shop theirs",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"disable_existing_loggers": True, "loggers": {"shop": {"level": "ERROR"}}},
        {"version": 1, "incremental": True, "loggers": {"shop": {"level": "ERROR"}}},
    ],
)
def test_a_configuration_that_is_not_about_us_does_not_silence_us(run, tmp_path, config):
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(config))
    done = run(
        f"configure(log_config={str(path)!r}); log.info('ours'); logging.getLogger('shop').info('theirs')"
    )
    assert [line["message"] for line in lines(done.stderr)] == ["ours"]


def test_without_pyyaml_a_line_says_what_brings_it(run, tmp_path):
    path = tmp_path / "logging.yaml"
    path.write_text(YAML)
    done = run(f"""
        sys.modules["yaml"] = None
        from asgi_master.errors import SettingsError
        try:
            configure(log_config={str(path)!r})
        except SettingsError as error:
            print(*error.errors)
    """)
    assert done.stdout == (
        f'log-config: {path}: PyYAML is not installed; `pip install "asgi-master[yaml]"` brings it\n'
    )


def test_a_logger_for_the_access_log_is_not_silenced_by_the_application(run, tmp_path):
    path = tmp_path / "logging.json"
    path.write_text(json.dumps({**CONFIG, "loggers": {"asgi_master.access": {"level": "INFO"}}}))
    done = run(f"""
        import logging.config
        from asgi_master.telemetry.access_logger import AccessLogger, is_configured
        configure("worker", log_config={str(path)!r}, worker=0, generation=1)
        logging.config.dictConfig(dict(version=1))
        assert is_configured()
        scope = dict(http_version="1.1", raw_path=b"/", query_string=b"", client=None, headers=[])
        AccessLogger("%(U)s %(s)s").record(object(), scope, 200, 1, 0.5)
    """)
    assert done.stderr == "mine worker 0 1 asgi_master.access / 200\n"


def test_a_configuration_may_name_our_logger_and_our_formatters(run, tmp_path):
    path = tmp_path / "logging.json"
    path.write_text(
        json.dumps(
            {
                "formatters": {"json": {"()": "asgi_master.telemetry.logs.JsonFormatter"}},
                "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json"}},
                "loggers": {"asgi_master": {"level": "ERROR", "handlers": ["out"]}},
            }
        )
    )
    done = run(f"configure(log_config={str(path)!r}); log.info('no'); log.error('yes')")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["message"] == "yes"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("gone.json", None, "No such file or directory"),
        ("broken.json", "{", "line 1"),
        ("broken.toml", "=", "line 1"),
        ("broken.ini", "x", "no section headers"),
        ("logging.xml", "<version/>", "must end in .json, .yaml, .toml or .ini"),
        ("broken.yaml", "a: [", "line 1"),
        ("list.yml", "- a", "not a mapping"),
        ("empty.yml", "", "not a mapping"),
        ("object.yaml", "root: !!python/object/apply:os.getpid []", "could not determine a constructor"),
        ("module.json", '{"filters": {"f": {"()": "of_the_application.Filter"}}}', "PYTHONPATH"),
        ("list.json", "[]", "list"),
        ("handler.json", '{"handlers": {"h": {"class": "no.such.Thing"}}}', "no.such"),
    ],
)
def test_a_configuration_that_cannot_be_applied_is_one_line(run, tmp_path, name, text, complaint):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    done = run(f"""
        from asgi_master.errors import SettingsError
        try:
            configure(log_config={str(path)!r})
        except SettingsError as error:
            print(*error.errors, sep="\\n")
    """)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"log-config: {path}: ")
    assert complaint in line


def test_an_unknown_level_is_a_settings_error(run):
    done = run("configure(level='loud')", check=False)
    assert done.stderr.splitlines()[-1].endswith("SettingsError: log_level: 'loud' is not a level")


def test_a_record_that_cannot_be_formatted_is_named_and_harmless(run):
    done = run("""
        configure()
        class Bad:
            def __str__(self):
                raise RuntimeError("no")
        log.warning("%s", Bad())
        log.warning("%d", "x")
        log.warning("lone surrogate \\udc80")
    """)
    first, second, third = lines(done.stderr)
    assert "cannot be shown: RuntimeError" in first["message"]
    assert "cannot be shown: TypeError" in second["message"]
    assert third["message"] == "lone surrogate \\udc80"


def test_standard_error_without_a_reader_is_no_problem(run):
    done = run("""
        r, w = os.pipe()
        os.dup2(w, 2); os.close(w)
        configure()
        os.close(r)
        log.error("lost")
        os.close(2)
        log.error("lost")
        configure()
        log.error("lost")
    """)
    assert done.returncode == 0


def test_a_stuck_reader_loses_records_blocks_no_process_and_is_reported(run):
    done = run("""
        r, w = os.pipe()
        os.dup2(w, 2); os.close(w)
        configure()
        for number in range(5000):
            log.info("record %d", number)
        read = os.read(r, 1 << 20)
        log.info("again")
        read += os.read(r, 1 << 20)
        assert os.get_blocking(2)
        sys.stdout.buffer.write(read)
    """)
    told = lines(done.stdout)
    kept = [line for line in told if line["message"].startswith("record")]
    assert told[-2]["message"] == "again"
    assert (
        told[-1]["message"] == f"{5000 - len(kept)} log record(s) were lost: no process read standard error"
    )
    assert 0 < len(kept) < 5000


def test_lines_of_several_processes_do_not_mix(run):
    done = run("""
        for number in range(4):
            if os.fork() == 0:
                configure("worker", worker=number, generation=1)
                for _ in range(200):
                    log.info(str(number) * 3000)
                os._exit(0)
        for number in range(4):
            os.wait()
    """)
    told = lines(done.stderr)
    assert all(
        re.fullmatch(r"(\d)\1{2999}", line["message"]) for line in told if "lost" not in line["message"]
    )
    assert len(told) > 100


@pytest.mark.parametrize(
    ("size", "count", "pause"),
    [
        (20_000, 24, 0.002),
        (100_000, 16, 0.01),
        (300_000, 8, 0.005),
        (1_000_000, 6, 0.01),
        (100_000, 40, 0.05),
    ],
    ids=str,
)
def test_long_records_of_several_processes_are_whole_or_counted(program, environment, size, count, pause):
    """The reader takes 16 KB and pauses; the last one is hopelessly slow."""
    code = f"""
        import random
        for number in range(4):
            if os.fork() == 0:
                configure("worker", format="json", worker=number, generation=1)
                for record in range({count} // 4):
                    log.info(str(number) * {size})
                    log.info("short")
                sys.exit()
        for number in range(4):
            os.wait()
    """
    with subprocess.Popen(program(code), stderr=subprocess.PIPE, env=environment()) as process:
        text = b""
        while piece := os.read(process.stderr.fileno(), 16384):
            text += piece
            time.sleep(pause)
    messages = [json.loads(line)["message"] for line in text.splitlines()]
    lost = sum(int(message.split()[0]) for message in messages if "were lost" in message)
    short = messages.count("short")
    long = [message for message in messages if len(message) == size]
    assert all(message == message[0] * size for message in long)
    assert len(long) + short + lost == 2 * (count // 4) * 4
    assert long


QUEUE = {
    "version": 1,
    "formatters": {"mine": {"format": "mine %(role)s %(threadName)s %(name)s %(message)s"}},
    "handlers": {
        "mine": {"class": "logging.StreamHandler", "formatter": "mine"},
        "queue": {
            "class": "logging.handlers.QueueHandler",
            "handlers": ["mine"],
            "respect_handler_level": True,
        },
    },
    "root": {"handlers": ["queue"], "level": "INFO"},
}
with_listeners = pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig makes no listeners yet")


@with_listeners
@pytest.mark.parametrize("starts", [False, True], ids=["", "the application starts it as well"])
def test_what_goes_to_a_queue_is_taken_out_again_in_every_process(run, tmp_path, starts):
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(QUEUE))
    done = run(f"""
        import threading
        def start():
            if {starts}:
                logging.getHandlerByName("queue").listener.start()
        configure("zygote", log_config={str(path)!r}, generation=1)
        start()
        log.info("imported")
        assert threading.active_count() == 1, "so it may fork"
        if os.fork() == 0:
            configure("worker", log_config={str(path)!r}, worker=0, generation=1)
            start()
            assert threading.active_count() == 2, "the loop does not wait for handlers"
            for number in range(3):
                log.info("serves %d", number)
            if {starts}:
                logging.getHandlerByName("queue").listener.stop()
            log.info("leaves")
            sys.exit()
        os.wait()
        log.info("ends")
    """)
    assert done.stderr.splitlines() == [
        "mine zygote MainThread asgi_master imported",
        *(f"mine worker MainThread asgi_master serves {number}" for number in range(3)),
        "mine worker MainThread asgi_master leaves",
        "mine zygote MainThread asgi_master ends",
    ]


@with_listeners
def test_a_formatter_behind_a_queue_gets_the_exception(run, tmp_path):
    path = tmp_path / "logging.json"
    formatters = {"mine": {"()": "asgi_master.telemetry.logs.JsonFormatter"}}
    path.write_text(json.dumps({**QUEUE, "formatters": formatters}))
    done = run(f"""
        configure("worker", log_config={str(path)!r})
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed")
    """)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["exception"]["type"] == "ZeroDivisionError"


def test_records_pending_before_a_fork_are_written_once(run, tmp_path):
    path = tmp_path / "logging.json"
    memory = {"class": "logging.handlers.MemoryHandler", "capacity": 100, "target": "mine"}
    handlers = {"mine": CONFIG["handlers"]["mine"], "memory": memory}
    path.write_text(json.dumps({**CONFIG, "handlers": handlers, "root": {"handlers": ["memory"]}}))
    done = run(f"""
        configure("zygote", log_config={str(path)!r}, generation=1)
        log.info("imported")
        if os.fork() == 0:
            configure("worker", log_config={str(path)!r}, worker=0, generation=1)
            log.info("serves")
            sys.exit()
        os.wait()
    """)
    assert done.stderr.splitlines() == [
        "mine worker 0 1 asgi_master serves",
        "mine zygote - 1 asgi_master imported",
    ]


TAKEOVERS = {
    "our logger": "logger.handlers = []; logger.propagate = True; root.handlers = [own]; root.setLevel('INFO')",
    "a handler of its own": "logger.addHandler(own); logger.propagate = False",
    "its level": "logger.setLevel('ERROR')",
    "the root": "root.handlers = [own]",
}


@pytest.mark.parametrize("has_config", [False, True])
@pytest.mark.parametrize("takeover", TAKEOVERS)
def test_what_an_application_makes_of_our_logger_holds_with_and_without_preload(
    run, tmp_path, takeover, has_config
):
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(CONFIG))
    config = str(path) if has_config else ""
    told = []
    for preload in (True, False):
        done = run(f"""
            def load():
                own = logging.StreamHandler(sys.stdout)
                own.setFormatter(logging.Formatter("own %(message)s"))
                logger, root = logging.getLogger("asgi_master"), logging.getLogger()
                {TAKEOVERS[takeover]}
            configure("zygote", log_config={config!r}, generation=1)
            if {preload}:
                load()
            if os.fork() == 0:
                configure("worker", log_config={config!r}, worker=0, generation=1)
                if not {preload}:
                    load()
                log.info("quiet")
                log.error("loud")
                sys.exit()
            os.wait()
        """)
        told.append((done.stdout, re.sub(r"[\d:. -]+", "", done.stderr)))
    assert told[0] == told[1]
    assert "loud" in told[0][0] + told[0][1]
