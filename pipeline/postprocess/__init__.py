"""The postprocess room: outputs to boxes. A new model family is one head here and one line in ``HEADS``."""
