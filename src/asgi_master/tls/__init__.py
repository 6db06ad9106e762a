"""What certificates say, and what a TLS server is made of: shared by the master, which checks, and the workers.

Rules of this room:
  - It touches no connection: it turns files into a bundle, and a bundle into contexts.
  - What is wrong is told as a line for each error, with the name of the setting.
"""
