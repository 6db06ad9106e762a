"""What a fleet did in the last fifteen minutes, in bounded memory. Pure.

Rules of this room:
  - No clock, process or socket: readings and times are arguments.
  - Memory is bounded by the number of slots, not by time: rings of 16-bit numbers (`rings`), at most `MOST_SLOTS` of
    them and a few generations. 500 workers take less than 2 MiB.
  - What is recorded once a second must be cheap: a worker costs a few dozen additions.
"""
