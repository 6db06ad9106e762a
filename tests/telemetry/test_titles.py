import pytest

from asgi_master.telemetry.titles import title


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ({"role": "master"}, "asgi-master: master app:app"),
        ({"role": "zygote", "generation": 7}, "asgi-master: zygote gen 7 app:app"),
        ({"role": "worker", "worker": 0, "generation": 7}, "asgi-master: worker 0 gen 7 app:app"),
    ],
)
def test_titles(place, shown):
    assert title(**place, application="app:app") == shown


def test_a_name_cannot_speak_to_a_terminal_or_fill_it():
    shown = title("master", application="a\n\x1b[2J" + "x" * 1000)
    assert shown.isprintable()
    assert len(shown) == 200


def test_the_kernel_shows_it(run):
    done = run("""
        from asgi_master.telemetry.titles import set_title
        set_title("worker", worker=3, generation=7, application="app:app")
        print(open("/proc/self/cmdline").read().rstrip("\\0"))
    """)
    assert done.stdout.strip() == "asgi-master: worker 3 gen 7 app:app"


def test_a_niceness_is_not_taken_for_threads_at_a_fork(run):
    done = run("""
        import warnings
        from asgi_master.telemetry.titles import set_title
        warnings.simplefilter("error")
        set_title("zygote", generation=7, application="app:app")
        os.nice(5)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        print(open("/proc/self/comm").read())
    """)
    assert done.stdout.strip() == "asgi-master:zyg"
