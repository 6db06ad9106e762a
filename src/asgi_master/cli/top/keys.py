"""What the keys ask for: a small dialogue, as values. Pure."""

from asgi_master.records import mutable_record, record

MAIN_KEYS = "r reload  b roll back  d drain  s stacks  q quit"
_DIGITS = "0123456789"
_LONGEST_SLOT = 5
_ENTER = {"\r", "\n"}
_ESCAPE = "\x1b"
_ERASE = {"\x7f", "\b"}


@record
class Ask:
    """A request to the master."""

    method: str
    target: str
    body: dict[str, object] | None
    done: str
    """What to show once it is accepted."""


@record
class Quit:
    """End the program."""


@record
class Scroll:
    """Move the text that is shown by so many lines, or so many screens."""

    lines: int = 0
    screens: int = 0


@record
class Close:
    """Close the text that is shown."""


Action = Ask | Quit | Scroll | Close
_RELOAD = Ask("POST", "/reload", None, "reload requested")
_ROLLBACK = Ask("POST", "/rollback", None, "rollback requested")
_SCROLLS = {
    "j": Scroll(1),
    "\x1b[B": Scroll(1),
    "k": Scroll(-1),
    "\x1b[A": Scroll(-1),
    " ": Scroll(screens=1),
    "\x1b[6~": Scroll(screens=1),
    "\x1b[5~": Scroll(screens=-1),
}


@mutable_record
class Dialogue:
    """The keys pressed so far, as far as they matter."""

    question: str = ""
    """Shown while an answer is awaited."""
    is_reading: bool = False
    """Whether a long text is shown, which the keys scroll."""
    _asked: Ask | None = None
    _takes_slot: str = ""
    """The command that a slot is typed for."""
    _typed: str = ""

    @property
    def prompt(self) -> str:
        """The line to show for what was typed; empty if nothing is awaited."""
        return f"{self.question}{self._typed}"

    def press(self, key: str) -> Action | None:
        """Handle a key; an escape sequence is one key."""
        if self._takes_slot:
            return self._type(key)
        if self._asked is not None:
            asked = self._asked
            self._forget()
            return asked if key in {"y", "Y"} else None
        if self.is_reading:
            if key in {"q", _ESCAPE, "s"}:
                self.is_reading = False
                return Close()
            return _SCROLLS.get(key)
        return self._begin(key)

    def _begin(self, key: str) -> Action | None:
        match key:
            case "q" | "\x03":
                return Quit()
            case "r":
                self._confirm(_RELOAD, "reload: read settings and code again?")
            case "b":
                self._confirm(_ROLLBACK, "roll back to the generation before?")
            case "d":
                self._takes_slot, self.question = "/drain", "replace the worker of slot: "
            case "s":
                self._takes_slot, self.question = "/stacks", "stacks of slot (Enter: all): "
        return None

    def _type(self, key: str) -> Action | None:
        if key in _ENTER:
            target, typed = self._takes_slot, self._typed
            self._forget()
            if target == "/stacks":
                body: dict[str, object] | None = {"slot": int(typed)} if typed else {}
                return Ask("POST", target, body, "")
            if typed:
                ask = Ask("POST", target, {"slot": int(typed)}, f"replacing the worker of slot {typed}")
                self._confirm(ask, f"replace the worker of slot {typed}?")
        elif key in _ERASE:
            self._typed = self._typed[:-1]
        elif key in _DIGITS and len(self._typed) < _LONGEST_SLOT:
            self._typed += key
        elif key not in _DIGITS:
            self._forget()
        return None

    def _confirm(self, ask: Ask, question: str) -> None:
        self._asked, self.question = ask, f"{question} (y/n) "

    def _forget(self) -> None:
        self._asked, self._takes_slot, self._typed, self.question = None, "", "", ""
