"""Which place has a session, in a file that all workers share."""

import os
import random

import pytest

from asgi_master.ipc.stick_table import StickTable


@pytest.fixture
def table():
    table = StickTable.create()
    yield table
    table.close()


def test_it_finds_what_was_stored_also_from_another_process(table):
    assert table.find(12345) is None
    table.store(12345, 7)
    assert table.find(12345) == 7
    other = StickTable(os.dup(table.fd))
    assert other.find(12345) == 7
    other.store(12345, 65535)
    assert table.find(12345) == 65535
    other.close()


def test_extreme_keys(table):
    for key in (0, (1 << 63) - 1, 1 << 62, (1 << 28) - 1):
        table.store(key, 3)
        assert table.find(key) == 3


def test_the_same_again_changes_nothing_and_later_it_is_marked_as_used(table):
    table.store(1, 3, now=0.0)
    table.store(1, 3, now=1.0)
    table.store(1, 3, now=300.0)
    assert table.find(1) == 3


def test_the_one_unused_for_longest_goes(table):
    # All of one set.
    keys = [(number << 28) | 5 for number in range(1, 10)]
    for minute, key in enumerate(keys[:8]):
        table.store(key, 9, now=60.0 * minute)
    table.store(keys[0], 9, now=600.0)
    table.store(keys[8], 9, now=660.0)
    assert [table.find(key) for key in keys] == [9, None, 9, 9, 9, 9, 9, 9, 9]


def test_tens_of_thousands(table):
    chance = random.Random(1)
    keys = [chance.getrandbits(63) for _ in range(50_000)]
    for key in keys:
        table.store(key, key % 60_000 + 1)
    lost = sum(table.find(key) != key % 60_000 + 1 for key in keys)
    assert lost < 0.01 * len(keys)


def test_nonsense_of_another_worker_is_no_place(table):
    os.pwrite(table.fd, os.urandom(1 << 16), 0)
    for key in range(2000):
        place = table.find(key)
        assert place is None or 0 < place < 1 << 16
        table.store(key, 5)
        assert table.find(key) == 5
    # A word with the right tag, and no place.
    os.pwrite(table.fd, (1).to_bytes(8, "little"), 3000 * 64)
    assert table.find(3000) is None
