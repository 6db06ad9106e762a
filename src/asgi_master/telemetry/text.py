"""Making text from outside safe to show on one line."""


def one_line(text: str) -> str:
    """The text with all that is not printable shown as escapes, the tab apart.

    That is control characters and line breaks, and what shows nothing but changes how the rest is shown: marks that
    turn the direction of writing, spaces without width, halves of surrogate pairs.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii")
