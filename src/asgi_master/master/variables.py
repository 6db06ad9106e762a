"""Environment variables that are known before the settings and the rest of the master are imported."""

UPGRADE = "_ASGI_MASTER_UPGRADE"
"""For a program that takes over from this process: `upgrade_protocol.UpgradeMode`, a colon, descriptor of the state."""

SECRETS = ("ASGI_MASTER_KEYFILE_PASSWORD",)
"""Those of secret settings: for the master alone, and for a program that is to become the master."""
