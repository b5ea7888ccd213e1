"""What the command's exit code says."""

DONE = 0
FAILED = 1
"""Something failed while running."""
BAD_INPUT = 2
"""A configuration, address, model or option that cannot be used; nothing was started."""
NOT_ON_PACE = 3
"""``run --require-pace``: at least one stream did not keep pace."""
