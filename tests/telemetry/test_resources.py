import os
import subprocess
import sys

from asgi_master.telemetry.resources import proportional_memory


def test_a_page_shared_by_two_is_counted_half_for_each():
    alone = proportional_memory(os.getpid())
    assert alone is not None
    assert alone > 1_000_000
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the test is over
        os._exit(0)
    try:
        assert proportional_memory(os.getpid()) < alone
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


def test_a_process_that_is_gone_has_none():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(20)
    assert proportional_memory(child.pid) is None
