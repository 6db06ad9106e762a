"""The engine and a client by the `h2` library, in every order: what one sends is what the other sees.

The library checks what it gets, so that a server that breaks a rule makes it raise. A run is drawn from one number:
lists of steps that Hypothesis shrinks would be too short to fill windows.
"""

from random import Random

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.http.h2.errors import ErrorCode
from asgi_master.http.limits import Http2Limits
from h2_engine import HEAD, Peer, RecordedStream

MOST_STREAMS = 25
WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
TABLE = h2.settings.SettingCodes.HEADER_TABLE_SIZE


class Exchange:
    """One stream, as the client knows it."""

    def __init__(self, fields, ends):
        self.fields = fields
        self.sent = b""
        self.has_ended = ends
        self.is_reset = False
        self.status = b""
        self.received = b""
        self.trailers = None
        self.is_complete = False
        self.unacknowledged = 0

    @property
    def is_open(self):
        return not (self.has_ended or self.is_reset)


class Answer:
    """What the server sent on it."""

    def __init__(self):
        self.has_begun = False
        self.has_ended = False
        self.has_finished = False
        self.is_early = False
        """Whether the server did not wait for the rest of the request."""
        self.body = b""
        self.trailers = None


class Connection:
    """Both ends, and the bytes between them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        limits = Http2Limits(stream_window=random.choice([1000, 65_535, 262_144]))
        self.peer = Peer(http2=limits, opens=False)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        values = {WINDOW: random.choice([0, 1, 100, 20_000, 65_535, 200_000])}
        self.client.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.client.initiate_connection()
        self.awaits_acknowledgement = True
        self.exchanges: dict[int, Exchange] = {}
        self.answers: dict[int, Answer] = {}
        self.to_server = self.to_client = b""
        self.peer.engine.start()
        self.flush()

    def pick(self, condition):
        found = [stream for stream, exchange in self.exchanges.items() if condition(exchange)]
        return self.random.choice(found) if found else None

    # -- the client --------------------------------------------------------------------------------

    def flush(self):
        self.to_server += self.client.data_to_send()

    def request(self):
        if len(self.exchanges) >= MOST_STREAMS:
            return
        choose = self.random.choice
        stream = self.client.get_next_available_stream_id()
        names = (b"accept", b"x-one", b"x-two")
        fields = [(choose(names), choose((b"", b"v", b"value" * 30))) for _ in range(choose(range(6)))]
        if priority := choose((b"", b"", b"u=1", b"u=5, i")):
            fields.append((b"priority", priority))
        head = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"host")]
        head.append((b":path", choose((b"/", b"/a?b=c", b"/long" * 20))))
        ends = choose((True, False))
        self.client.send_headers(stream, head + fields, end_stream=ends)
        self.exchanges[stream] = Exchange([(b"host", b"host"), *fields], ends)
        self.flush()

    def send_data(self):
        stream = self.pick(lambda exchange: exchange.is_open)
        if stream is None:
            return
        size = min(
            self.random.choice((0, 1, 1000, 10_000, 16_000)),
            self.client.local_flow_control_window(stream) - 256,
        )
        if size < 0:
            return
        exchange = self.exchanges[stream]
        data = bytes([len(exchange.sent) % 256]) * size
        exchange.sent += data
        exchange.has_ended = self.random.random() < 0.2
        padding = self.random.choice((None, None, 0, 255))
        self.client.send_data(stream, data, end_stream=exchange.has_ended, pad_length=padding)
        self.flush()

    def send_trailers(self):
        stream = self.pick(lambda exchange: exchange.is_open)
        if stream is not None and self.random.random() < 0.3:
            self.client.send_headers(stream, [(b"x-trailer", b"value")], end_stream=True)
            self.exchanges[stream].has_ended = True
            self.flush()

    def reset_by_the_client(self):
        stream = self.pick(lambda exchange: not (exchange.is_reset or exchange.is_complete))
        if stream is not None and self.random.random() < 0.2:
            self.client.reset_stream(stream, ErrorCode.CANCEL)
            self.exchanges[stream].is_reset = True
            self.flush()

    def acknowledge(self):
        stream = self.pick(lambda exchange: exchange.unacknowledged)
        if stream is not None:
            exchange = self.exchanges[stream]
            size = self.random.randint(1, exchange.unacknowledged)
            exchange.unacknowledged -= size
            self.client.acknowledge_received_data(size, stream)
            self.flush()

    def change_settings(self, window=None):
        """The library does not tell apart the acknowledgements of two SETTINGS."""
        if not self.awaits_acknowledgement:
            window = window or self.random.choice([0, 10, 5000, 100_000])
            self.client.update_settings({WINDOW: window, TABLE: self.random.choice([0, 100, 4096])})
            self.awaits_acknowledgement = True
            self.flush()

    def open_windows(self):
        self.client.increment_flow_control_window(self.random.randint(1, 50_000))
        stream = self.pick(lambda exchange: not (exchange.is_reset or exchange.is_complete))
        if stream is not None:
            self.client.increment_flow_control_window(self.random.randint(1, 50_000), stream)
        self.flush()

    def ping(self):
        self.client.ping(b"pingping")
        self.flush()

    # -- the bytes ---------------------------------------------------------------------------------

    def deliver_to_the_server(self, most=30_000):
        size = self.random.randint(1, most)
        self.peer.send(self.to_server[:size])
        self.to_server = self.to_server[size:]

    def deliver_to_the_client(self, most=30_000):
        self.to_client += self.peer.engine.data_to_send(self.random.choice((1, 10_000, 65_536)))
        size = self.random.randint(1, most)
        data, self.to_client = self.to_client[:size], self.to_client[size:]
        for event in self.client.receive_data(data):
            self.see(event)
        self.flush()

    def see(self, event):
        exchange = self.exchanges.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.ResponseReceived():
                exchange.status = dict(event.headers)[b":status"]
            case h2.events.DataReceived():
                exchange.received += event.data
                exchange.unacknowledged += event.flow_controlled_length
            case h2.events.TrailersReceived():
                exchange.trailers = list(event.headers)
            case h2.events.SettingsAcknowledged():
                self.awaits_acknowledgement = False
            case h2.events.StreamEnded():
                exchange.is_complete = True
            case h2.events.StreamReset():
                assert event.error_code == ErrorCode.NO_ERROR
                exchange.is_reset = True
            case h2.events.ConnectionTerminated():
                raise AssertionError(event)

    # -- the server --------------------------------------------------------------------------------

    def pick_served(self, condition) -> tuple[RecordedStream | None, Answer]:
        for stream in self.peer.streams:
            self.answers.setdefault(stream, Answer())
        found = [
            stream for stream, answer in self.answers.items() if condition(answer) and not answer.has_finished
        ]
        if not found:
            return None, Answer()
        stream = self.random.choice(found)
        return self.peer.streams[stream], self.answers[stream]

    def respond(self, *, ends=False):
        stream, answer = self.pick_served(lambda answer: not answer.has_ended)
        if stream is None:
            return
        ends = ends or self.random.random() < 0.2
        size = self.random.choice((0, 1, 100, 16_384, 60_000))
        if not size and stream.send_window < 0:
            return  # the library takes the end of a stream whose window is negative for an error
        data = bytes([(len(answer.body) + stream.stream_id) % 256]) * size
        if answer.has_begun:
            self.peer.engine.send_data(stream, data, ends)
        else:
            self.peer.engine.send_head(stream, HEAD, data, ends, size if ends else None)
        answer.has_begun = True
        answer.body += data
        answer.has_ended = ends

    def respond_with_trailers(self):
        stream, answer = self.pick_served(lambda answer: answer.has_begun and not answer.has_ended)
        if stream is not None and self.random.random() < 0.3:
            self.peer.engine.send_trailers(stream, ((b"x-sum", b"1"),))
            answer.trailers = [(b"x-sum", b"1")]
            answer.has_ended = True

    def finish(self):
        stream, answer = self.pick_served(lambda answer: answer.has_ended)
        if stream is not None:
            if not stream.has_ended:
                self.peer.engine.reset(stream, ErrorCode.NO_ERROR)
                answer.is_early = True
            self.peer.engine.finished(stream)
            answer.has_finished = True

    def consume(self):
        found = [stream for stream in self.peer.streams.values() if stream.unconsumed]
        if found:
            stream = self.random.choice(found)
            self.peer.engine.consumed(stream, self.random.randint(1, stream.unconsumed))

    # -- the end -----------------------------------------------------------------------------------

    def settle(self):
        """Deliver everything."""
        while True:
            while self.to_server:
                self.deliver_to_the_server()
            self.to_client += self.peer.engine.data_to_send(65_536)
            if not self.to_client:
                return
            self.deliver_to_the_client()

    def complete(self):
        """Open all windows, and complete all responses."""
        self.settle()
        self.change_settings(2**28)
        self.client.increment_flow_control_window(2**28)
        self.flush()
        self.settle()
        while self.pick_served(lambda answer: not answer.has_ended)[0] is not None:
            self.respond(ends=True)
        while self.pick_served(lambda answer: True)[0] is not None:
            self.finish()
        self.settle()

    def check(self):
        assert set(self.peer.streams) == set(self.exchanges)
        for number, exchange in self.exchanges.items():
            stream, answer = self.peer.streams[number], self.answers[number]
            assert stream.request.headers == exchange.fields
            assert exchange.sent.startswith(stream.body)
            assert answer.body.startswith(exchange.received)
            if exchange.is_complete:
                assert (exchange.status, exchange.received) == (b"200", answer.body)
                assert exchange.trailers == answer.trailers
            else:
                assert exchange.is_reset
            if exchange.has_ended and not (exchange.is_reset or answer.is_early):
                assert (stream.body, stream.has_ended) == (exchange.sent, True)
        engine = self.peer.engine
        assert not engine.streams
        assert engine._receive_window + engine._due == engine._connection_window


ACTIONS = (
    Connection.request,
    Connection.send_data,
    Connection.send_data,
    Connection.send_trailers,
    Connection.reset_by_the_client,
    Connection.acknowledge,
    Connection.change_settings,
    Connection.open_windows,
    Connection.ping,
    Connection.respond,
    Connection.respond_with_trailers,
    Connection.finish,
    Connection.consume,
    *[Connection.deliver_to_the_server] * 3,
    *[Connection.deliver_to_the_client] * 3,
)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_what_one_side_sends_is_what_the_other_sees(seed):
    random = Random(seed)
    connection = Connection(random)
    for _ in range(200):
        random.choice(ACTIONS)(connection)
    connection.complete()
    connection.check()
