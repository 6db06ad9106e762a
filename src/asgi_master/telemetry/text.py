"""Escapes text from outside, so that it is safe to show on one line."""


def one_line(text: str) -> str:
    """The text with everything that is not printable escaped, except the tab.

    That covers control characters and line breaks, and characters that show nothing but change how others are shown:
    direction marks, zero-width spaces, lone surrogates.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii")
