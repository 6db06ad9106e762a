"""The settings: their definitions, sources and checks.

Rules of this room:
  - One typed definition per setting (`model`); flags, variables, file keys and the reference derive from it.
  - Every value has an origin, and all errors are reported at once, one line each, with it.
  - Values are plain data: they can be compared (`diff`) and sent to another process (`codec`).
"""
