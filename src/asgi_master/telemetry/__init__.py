"""What we tell people: logs, the access log, process titles and sentences about what happened.

Rules of this room:
  - Telling never harms serving: nothing here raises into its caller or waits long for a reader that is stuck;
    what nobody takes is dropped, counted, and the loss is said.
  - What comes from outside is escaped: a peer cannot forge a line or speak to a terminal.
  - Decides nothing. Wording lives here; what happened is told by others.
"""
