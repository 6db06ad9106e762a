"""The command lines `asgi-master` and `asgi-masterctl`: arguments in, lines and an exit status out.

Rules of this room:
  - Options derive from the settings model; their values are read and checked there, not here.
  - It alone imports Typer, and only for a command line that `fast_parser` does not support.
"""
