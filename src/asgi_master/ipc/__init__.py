"""Communication between the processes.

Rules of this room:
  - Children send facts, in the past tense; the master sends orders, in the imperative. Descriptors come along.
  - End of file on a channel means that the other process has ended.
  - What a child sends or writes is untrusted input: bounded in size and number (`conduct`, `messages`).
  - No call waits for a shared object, and files in memory that others map are sealed (`descriptors`, `memory`).
  - The scoreboard has one writer per field and no locks: a lock would die with its holder.
"""
