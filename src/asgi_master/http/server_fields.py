"""The fields that the server adds to its responses, whatever version of HTTP carries them."""

from typing import Protocol, TypeVar

from asgi_master.http.message import Fields, ResponseHead


class HeadEncoder(Protocol):
    """Encodes heads for one version of HTTP, and remembers them until the date changes."""

    def __init__(self, fields: "ServerFields") -> None: ...

    def date_changed(self) -> None:
        """The date of `ServerFields` is another one."""


E = TypeVar("E", bound=HeadEncoder)


class ServerFields:
    """Date, Server and those of the settings. The connections of a worker share them, and what encodes them."""

    __slots__ = ("_encoders", "_is_dated", "date", "extra", "server")

    def __init__(
        self, *, server_header: bool = True, date_header: bool = True, extra_headers: Fields = ()
    ) -> None:
        self.server = b"asgi-master" if server_header else b""
        """What the Server field says; empty if there is none."""
        self.date = b""
        """What the Date field says; empty if there is none."""
        self.extra = extra_headers
        """Fields of the settings, for responses that do not have them."""
        self._is_dated = date_header
        self._encoders: dict[type[HeadEncoder], HeadEncoder] = {}

    def set_date(self, date: str) -> None:
        """Say from now on that it is `date`, an IMF-fixdate (RFC 9110 §5.6.7)."""
        if self._is_dated:
            self.date = date.encode("ascii")
            for encoder in self._encoders.values():
                encoder.date_changed()

    def encoder(self, kind: type[E]) -> E:
        """The encoder of this class that all connections share. It is made when it is asked for first."""
        known = self._encoders.get(kind)
        if known is None:
            known = self._encoders[kind] = kind(self)
        assert isinstance(known, kind)
        return known

    def missing(self, head: ResponseHead) -> Fields:
        """The fields of the settings that `head` does not have."""
        given = {name.lower() for name, _ in head.fields}
        return tuple([field for field in self.extra if field[0].lower() not in given])
