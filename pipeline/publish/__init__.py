"""The publish room: one message a frame, to every sink. A new sink is one file here and one line in ``SINKS``."""
