"""Operator output: the log, the access log, process titles, and the sentences for supervision notices.

Rules of this room:
  - Logging never harms serving: nothing here raises into its caller or waits long for a blocked reader. Output that
    cannot be written is dropped and counted, and the loss is logged.
  - Text from outside is escaped: a peer can neither forge a line nor send control sequences to a terminal.
  - It decides nothing: other rooms supply the facts, this room the wording.
"""
