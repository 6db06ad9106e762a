"""Which name was probably meant by one that is misspelt."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like `word`; empty if none is."""
    import difflib  # noqa: PLC0415 -- only needed after an error

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")
