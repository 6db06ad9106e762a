"""The Typer shells: words of the operator in, lines and an exit status out.

Rules of this room:
  - Options derive from the settings model; nothing is parsed, checked or defaulted here.
  - It alone imports Typer, and only for a command line that `fast_parser` does not support.
"""
