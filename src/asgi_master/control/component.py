"""Parts that the master's loop calls besides its children."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asgi_master.supervision.notices import Notice


class Component:
    """A part of the master with something to do on a notice, in each turn of the loop, or at the end.

    Defaults do nothing.
    """

    def note(self, notice: "Notice") -> None:
        """Handle a notice of the supervisor."""

    def sweep(self) -> None:
        """Do what is due; called after each turn of the loop, at least every half second."""

    def close(self) -> None:
        """Release all resources: the master ends."""
