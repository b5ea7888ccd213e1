"""The command ``onpace``."""
