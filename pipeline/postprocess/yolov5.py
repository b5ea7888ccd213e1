"""The anchor head of YOLOv5 and YOLOv7, its boxes decoded in the graph; also YOLOv6, and YOLOX exported with decoding.

Output ``[N, A, 5 + C]``: centre x, centre y, width, height in input pixels, objectness, class scores 0-1. A box's score
is objectness times the score of its best class. Anchors go back to YOLOv2 (Redmon and Farhadi, arXiv:1612.08242).
"""

from __future__ import annotations

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.postprocess.head import Candidates
from pipeline.postprocess.yolov8 import centred_to_xyxy
from pipeline.postprocess.yolox import rows_with_objects, scored_rows


class YoloV5Head:
    """Reads ``[N, A, 5 + C]``, float32 or float16."""

    def __init__(self, spec: ModelSpec) -> None:
        self._output = str(spec.head_options.get("output", spec.outputs[0].name))

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        _, rows = rows_with_objects(outputs[self._output][row], score_threshold)
        place, class_ids, scores = scored_rows(rows, score_threshold, every_class)
        return Candidates(centred_to_xyxy(rows[place, :4]), scores, class_ids)
