"""The wheel: who is looked at in which second."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asgi_master.http.limits import HttpLimits
from asgi_master.worker.transport.sweeps import Sweeps
from http_apps import hello
from serving import serve


class Connection:
    """Notes what the wheel does not say: until when it may rest."""

    rests_until = 0

    def __init__(self) -> None:
        self.until = 0.0
        self.is_gone = False


class Wheel(RuleBasedStateMachine):
    """Against a model that remembers of each connection until when it may rest."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps: Sweeps[Connection] = Sweeps()
        self.connections: list[Connection] = []
        self.now = 0.0

    @rule()
    def add(self) -> None:
        connection = Connection()
        self.connections.append(connection)
        self.sweeps.add(connection)

    @rule(index=st.integers(0, 99))
    def wake(self, index: int) -> None:
        if self.connections:
            connection = self.connections[index % len(self.connections)]
            connection.until = 0.0
            self.sweeps.wake(connection)

    @rule(index=st.integers(0, 99))
    def discard(self, index: int) -> None:
        if self.connections:
            self.sweeps.discard(self.connections.pop(index % len(self.connections)))

    @rule(passed=st.floats(1, 50), rests=st.lists(st.floats(0, 100), max_size=5))
    def second(self, passed: float, rests: list[float]) -> None:
        self.now += passed
        taken = self.sweeps.take(self.now)
        assert len(set(taken)) == len(taken)
        late = {connection for connection in self.connections if connection.until <= self.now - 2}
        assert late <= set(taken), (
            "a time-out is two seconds late at most: rounded up, and looked at each second"
        )
        assert all(connection.until <= self.now for connection in taken), "looked at for nothing"
        for connection in taken:
            connection.until = 0.0
        for connection, rest in zip(taken, rests, strict=False):
            if rest > 1:
                connection.until = self.now + rest
            self.sweeps.rest(connection, self.now + rest, self.now)

    @invariant()
    def holds_only_those_that_are_there(self) -> None:
        held = set(self.sweeps._soon).union(*self.sweeps._buckets.values())
        assert held == set(self.connections)


TestWheel = Wheel.TestCase


def test_a_used_connection_is_closed_a_whole_time_out_after_its_last_request() -> None:
    with serve(hello, sweeps=False, http=HttpLimits(keep_alive_timeout=60.0)) as server:

        def sweep(now: float) -> None:
            sweeps = server.context.sweeps
            for connection in sweeps.take(now):
                sweeps.rest(connection, connection.sweep(now), now)

        client = server.client()
        client.get()
        start = server.run(server.loop.time)
        server.run(lambda: sweep(start))
        assert server.run(lambda: server.context.sweeps.take(start + 58)) == [], "it rests"
        client.get()
        server.run(lambda: sweep(start + 58))
        server.run(lambda: sweep(start + 110))
        assert len(server.context.connections) == 1
        server.run(lambda: sweep(start + 120))
        assert client.is_closed()
