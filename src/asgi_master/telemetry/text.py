"""Making text from outside safe to show on one line."""

from collections.abc import Mapping

# C0 (tab apart), DEL and C1 controls, and the separators that some viewers break lines at.
_ESCAPES: Mapping[int, str] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\t")},
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def one_line(text: str) -> str:
    """The text with control characters and line breaks shown as escapes."""
    return text if text.isprintable() else text.translate(_ESCAPES)
