"""Certificates and TLS contexts, used by the master, which checks them, and by the workers.

Rules of this room:
  - It touches no connection: files become a bundle, and a bundle becomes contexts.
  - Errors are reported one line each, with the name of the setting.
"""
