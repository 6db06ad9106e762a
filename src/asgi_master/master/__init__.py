"""The OS edge: one thread, one selector, no loop, no application.

Rules of this room:
  - It carries facts to the supervision core and its orders out; it decides nothing about processes.
  - Nothing here blocks: not a wait, not a lock, not a name look-up after start-up.
  - A child's pid is signalled only before the master itself has reaped it, so the number cannot have been reused.
"""
