"""Which processes should live.

Rules of this room:
  - Pure: no process, socket, clock or random number; time is an argument.
  - Events are facts in the past tense, actions are orders; nothing here waits.
  - All that is decided from is in one `SupervisorState`, which survives a live upgrade.
"""
