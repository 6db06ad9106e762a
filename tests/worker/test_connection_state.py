"""What a connection was travels with it: each part of its state, and nothing that cannot be read."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_master.http.limits import HttpLimits
from asgi_master.worker.transport.connection_state import NEW, ConnectionState
from asgi_master.worker.transport.endpoints import Endpoints
from http_apps import hello
from serving import serve

_ADDRESSES = st.none() | st.tuples(st.text(max_size=108), st.none() | st.integers(0, 65535))
_ENDS = st.builds(Endpoints, _ADDRESSES, _ADDRESSES, st.booleans(), st.booleans())
_STATES = st.builds(
    ConnectionState,
    ends=st.none() | _ENDS,
    expects_proxy_header=st.booleans(),
    served=st.integers(0, 2**62),
    idle_since=st.none() | st.floats(0, 2**40),
)


@given(_STATES)
def test_the_metadata_says_it_all(state):
    assert ConnectionState.from_metadata(state.to_metadata()) == state


def test_a_note_has_room_in_the_queue():
    path = "\udcff" * 108
    ends = Endpoints((path, None), (path, None), is_tls=True, is_unix=True)
    assert len(ConnectionState(ends, True, 2**62, 2.0**40 + 0.1).to_metadata()) < 2048


def test_a_newer_version_may_say_more():
    assert ConnectionState.from_metadata(b'{"served": 3, "streams": [1]}') == ConnectionState(served=3)
    assert ConnectionState.from_metadata(b"{}") == NEW


ENDS = Endpoints(("1.2.3.4", 5), ("/run/app.sock", None), is_tls=True)
OLDER = {
    b"": ConnectionState(),
    b"header to come": ConnectionState(expects_proxy_header=True),
    b'[["1.2.3.4", 5], ["/run/app.sock", null], true, false]': ConnectionState(ENDS),
}
"""What versions without this form metadata."""


@pytest.mark.parametrize(("metadata", "meant"), OLDER.items())
def test_an_older_version_says_less(metadata, meant):
    """Not whether the connection was served, except where a header has to come first."""
    assert ConnectionState.from_metadata(metadata) == replace(
        meant, served=0 if meant.expects_proxy_header else 1
    )


@pytest.mark.parametrize(
    "metadata",
    [
        b"x",
        b"\xff",
        b"null",
        b"[]",
        b"[1, 2, 3, 4]",
        b"[null, null, 0, 1]",
        b'[["a", 5], null, true, false, 0]',
        b'[["a", 5, 6], null, true, false]',
        b"[" * 2000,
        b'{"served": -1}',
        b'{"served": true}',
        b'{"served": 1e3}',
        b'{"served": ' + b"9" * 100 + b"}",
        b'{"idle_since": NaN}',
        b'{"idle_since": -1.0}',
        b'{"idle_since": "0"}',
        b'{"expects_proxy_header": 1}',
        b'{"ends": 1}',
        b'{"ends": {}}',
        b'{"ends": {"client": [1, 2], "server": null, "is_tls": false, "is_unix": false}}',
        b'{"ends": {"client": ["a"], "server": null, "is_tls": false, "is_unix": false}}',
        b'{"ends": {"client": null, "server": null, "is_tls": 1, "is_unix": false}}',
    ],
)
def test_what_no_version_writes_is_no_state(metadata):
    with pytest.raises(ValueError, match="not the state of a connection"):
        ConnectionState.from_metadata(metadata)


@given(
    st.binary(max_size=64)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([field.name for field in fields(ConnectionState)]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_is_a_state_or_refused(metadata):
    try:
        state = ConnectionState.from_metadata(metadata)
    except ValueError:
        return
    assert ConnectionState.from_metadata(state.to_metadata()) == state


# -- over two workers --------------------------------------------------------------------------------

LIMITS = HttpLimits(header_timeout=10, keep_alive_timeout=100)


def move(old, new):
    """Give the only connection of one worker to the other; returns it there, and what went along."""
    moved = []

    def put(sock, state):
        copy = sock.dup()
        copy.setblocking(False)
        moved.append((copy, ConnectionState.from_metadata(state.to_metadata())))
        return True

    old.run(lambda: [connection.drain(put) for connection in list(old.context.connections)])
    ((sock, state),) = moved
    new.take(sock, state)
    (connection,) = new.context.connections
    return connection, state


def sweep(server, connection, now):
    server.run(lambda: connection.sweep(now))


@pytest.fixture
def workers():
    with serve(hello, http=LIMITS, sweeps=False) as old, serve(hello, http=LIMITS, sweeps=False) as new:
        yield old, new


@pytest.mark.parametrize(("requests", "limit"), [(0, 10), (2, 100)], ids=["silent", "served"])
def test_the_time_it_was_idle_counts(workers, requests, limit):
    old, new = workers
    client = old.client()
    for _ in range(requests):
        client.get()
    old.wait_until(lambda: len(old.context.connections) == 1)
    (connection,) = old.context.connections
    began = old.loop.time()
    sweep(old, connection, began)
    connection, state = move(old, new)
    assert (state.idle_since, state.served) == (began, requests)
    sweep(new, connection, began + limit - 0.1)
    assert new.context.connections
    sweep(new, connection, began + limit + 0.1)
    assert client.is_closed()


def test_what_it_was_served_is_added_to(workers):
    old, new = workers
    client = old.client()
    client.get()
    move(old, new)
    client.get()
    client.get()
    new.wait_until(lambda: new.context.stats.requests == 2)
    _connection, state = move(new, old)
    assert state.served == 3
    assert client.get().status == 200


def test_nobody_looked_yet(workers):
    old, new = workers
    client = old.client()
    client.get()
    before = old.loop.time()
    connection, state = move(old, new)
    assert before <= state.idle_since <= new.loop.time(), "it begins when it moves, not at each next look"
    sweep(new, connection, before + 99)
    assert client.get().status == 200


def test_an_empty_line_is_no_use_of_a_connection(workers):
    old, new = workers
    client = old.client()
    client.send(b"\r\n")
    old.wait_until(lambda: any(connection._received for connection in old.context.connections))
    connection, state = move(old, new)
    assert state.served == 0
    sweep(new, connection, state.idle_since + 10.1)
    assert client.is_closed()


def test_one_that_was_served_elsewhere_is_closed_at_once_when_nobody_takes_it(workers):
    """A fresh one gets a second more: its first request may be on its way."""
    old, new = workers
    client = old.client()
    client.get()
    connection, _state = move(old, new)
    new.run(connection.drain)
    assert client.is_closed()
