"""gRPC's own client against an application that speaks gRPC's protocol by hand."""

import pytest

from fleet import PATIENCE, Fleet

grpc = pytest.importorskip("grpc")


def test_grpc(fleet: Fleet) -> None:
    fleet.serve("grpc_app:app", workers=1)
    address = fleet.url.removeprefix("http://")
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        for message in (b"hello", bytes(200_000)):
            assert unary(message, timeout=PATIENCE) == message
        stream = channel.unary_stream("/test.Echo/Stream")(b"message", timeout=PATIENCE)
        assert list(stream) == [b"message 0", b"message 1", b"message 2"]
        assert stream.code() is grpc.StatusCode.OK
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/test.Echo/Absent")(b"hello", timeout=PATIENCE)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert refused.value.details() == "not here"
