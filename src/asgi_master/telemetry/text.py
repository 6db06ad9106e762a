"""Makes text from outside safe to show: on one line, and without passwords."""

import re

# An application can have the master search a text of its choice. So every repetition that could be tried from many
# places is bounded: the time is proportional to the length of the text.
_USER_INFO = re.compile(r"(?<=://)[^\s/@]+@")
_NAMED = re.compile(
    r"(?i)((?:passw(?:or)?d|pwd|secret|token|api[_-]?key|authorization|credential)[\w.-]{0,40}[\"']?\s{0,4}[=:]\s{0,4})"
    r"(?:bearer\s{1,4}|basic\s{1,4})?(?:\"[^\"]{0,400}\"|'[^']{0,400}'|[^\s,;&)]+)"
)


def one_line(text: str) -> str:
    """The text with everything that is not printable escaped, except the tab.

    That covers control characters and line breaks, and characters that show nothing but change how others are shown:
    direction marks, zero-width spaces, lone surrogates.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii")


def without_secrets(text: str) -> str:
    """The text with `***` for what looks like a secret: the user in a URL, and values of names like `password`."""
    return _NAMED.sub(r"\1***", _USER_INFO.sub("***@", text))
