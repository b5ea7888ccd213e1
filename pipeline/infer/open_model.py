"""Opens the model of a configuration on the runtime it asks for, at every input size it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.builds import Builds
from engines.model_spec import ModelSpec
from engines.runtime import Runtime, RuntimeOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.config.sections import Config
from pipeline.decode.room import stream_bytes
from pipeline.infer.smaller_inputs import SmallerInputs
from pipeline.infer.upgrade import Upgrade, open_now
from pipeline.plan import StreamPlan


def open_model(
    config: Config, model: Path, spec: ModelSpec, plans: Sequence[StreamPlan], builds: Builds
) -> tuple[Runtime, Upgrade | None]:
    """Return what runs ``model`` now, and what takes over later. ``builds`` counts what has to be made for it.

    Raises ConfigError, ModelError and RuntimeMissingError, as ``SmallerInputs`` and ``open_now`` do.
    """
    infer = config.infer
    smaller = SmallerInputs(config, model, spec)
    options = RuntimeOptions(
        prefer=infer.prefer,
        max_batch=infer.batch_size,
        threads=infer.threads,
        streams=len(plans),
        live=all(plan.live for plan in plans),
        one_shape=smaller.exist,
        precision=infer.precision,
        calibration=calibration_from(infer.calibration, spec, infer.calibration_pictures, infer.calibration_method),
        gpu=infer.gpu,
        stream_bytes=stream_bytes(config.decode),
        plans=config.engine.options(),
        builds=builds,
    )
    return open_now(infer.runtime, model, spec, options, config.engine.build, smaller.open_beside)
