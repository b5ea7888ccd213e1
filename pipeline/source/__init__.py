"""The source room: gives one stream's packets. A new kind of source is one file here and one line in ``SOURCES``."""
