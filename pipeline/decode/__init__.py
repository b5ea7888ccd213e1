"""The decode room: turns packets into frames. A new decoder is one file here and one line in ``DECODERS``."""
