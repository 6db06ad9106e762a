"""What the master's loop drives besides its children."""

from asgi_master.supervision.notices import Notice


class Component:
    """A part with something to do on a notice, in each turn of the loop, or at its end. The defaults do nothing."""

    def note(self, notice: Notice) -> None:
        """Follow what the supervisor announced."""

    def sweep(self) -> None:
        """Do what is due; called after each turn of the loop, at least every half second."""

    def close(self) -> None:
        """Release what is held: the master ends."""
