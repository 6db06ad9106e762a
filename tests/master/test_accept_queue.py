"""The accept queues of real listeners."""

import contextlib
import socket
from pathlib import Path

from asgi_master.master.accept_queue import queues
from asgi_master.master.open_listener import Listener


def test_tcp_and_unix(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=7))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "s"))
        unix.listen(5)
        for sock, clients in ((tcp, 3), (unix, 2)):
            for _ in range(clients):
                client = stack.enter_context(socket.socket(sock.family))
                client.connect(sock.getsockname())
        found = list(queues([Listener(tcp), Listener(unix)]))
        assert [(queue.length, queue.limit) for queue in found] == [(3, 7), (2, 5)]
        assert [queue.listener for queue in found] == [Listener(tcp).url, f"unix:{tmp_path}/s"]
        stack.enter_context(tcp.accept()[0])
        assert next(queues([Listener(tcp)])).length == 2


def test_an_abstract_name_is_readable() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(b"\0asgi-master-test-queue")
        sock.listen(1)
        # Python tells abstract names as bytes.
        assert [queue.listener for queue in queues([Listener(sock)])] == ["unix:@asgi-master-test-queue"]


def test_what_the_kernel_does_not_tell_is_left_out() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(sock)
    sock.close()
    assert list(queues([listener])) == []
