"""How the processes speak.

Rules of this room:
  - Children tell facts in the past tense, the master gives orders in the imperative; descriptors ride along.
  - End of file on a channel means that the other side is gone.
  - What a child says or writes is input: bounded in size and number (`conduct`, `messages`).
  - What is shared is never waited for, and files in memory that others map are sealed (`descriptors`, `memory`).
  - The scoreboard has one writer per field and no locks: a lock would die with its holder.
"""
