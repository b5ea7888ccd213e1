"""What a configuration asks of the runtime."""

from __future__ import annotations

from collections.abc import Sequence

from engines.model_spec import ModelSpec
from engines.runtime import RuntimeOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.config.sections import Config
from pipeline.decode.room import stream_bytes
from pipeline.plan import StreamPlan


def runtime_options(config: Config, spec: ModelSpec, plans: Sequence[StreamPlan]) -> RuntimeOptions:
    """Return it as ``engines`` takes it. ``plans``: of the streams there are at the start."""
    infer = config.infer
    return RuntimeOptions(
        prefer=infer.prefer,
        max_batch=infer.batch_size,
        threads=infer.threads,
        streams=len(plans),
        live=all(plan.live for plan in plans),
        precision=infer.precision,
        calibration=calibration_from(infer.calibration, spec, infer.calibration_pictures),
        gpu=infer.gpu,
        stream_bytes=stream_bytes(config.decode),
        plans=config.engine.options(),
    )
