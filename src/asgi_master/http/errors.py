"""What makes a peer's bytes unacceptable, and the status that says so."""


class ProtocolError(Exception):
    """The peer broke the protocol or a limit. It is answered with `status`, and the connection closes.

    `status` is a 4xx or 5xx code (RFC 9110 §15), `reason` a sentence the peer may read.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
