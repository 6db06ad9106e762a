"""What the operator may say.

Rules of this room:
  - One typed definition per setting (`model`); flags, variables, file keys and the reference derive from it.
  - Every value knows its origin, and all errors are told at once, one line each, with theirs.
  - Values are plain data: they can be compared (`diff`) and sent to another process (`wire`).
"""
