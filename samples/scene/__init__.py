"""Renders street scenes with exact ground truth, using NumPy and OpenCV drawing only.

World axes: x to the right across the street, y along it, z up, in metres; the ground is z = 0.
Headings are radians from +x towards +y. Colours are RGB, 0-255. Pixels are source pixels, x right and y down.
"""

CLASS_NAMES = ("person", "bicycle", "car", "truck")
