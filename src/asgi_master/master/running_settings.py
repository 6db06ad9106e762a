"""The settings that the master runs under, through the life of a reload: proposed, then committed or reverted."""

from dataclasses import field

from asgi_master.records import mutable_record
from asgi_master.settings.model import Settings


@mutable_record
class RunningSettings:
    """One value for all that read the settings while they can change."""

    current: Settings
    """Of the next generation to start: those of a reload while it is under way, else the committed ones."""
    committed: Settings = field(init=False)
    """Of the generation that was committed last; before the first, those of the start."""

    def __post_init__(self) -> None:
        self.committed = self.current

    def propose(self, settings: Settings) -> None:
        """A reload or a rollback begins to run under these."""
        self.current = settings

    def commit(self) -> None:
        """The generation that runs under the current settings has taken over."""
        self.committed = self.current

    def revert(self) -> None:
        """It failed; the committed generation stays."""
        self.current = self.committed
