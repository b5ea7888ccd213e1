"""Opens the model at its smaller inputs beside the full one, where a configuration asks for them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from engines.errors import DeviceMemoryError, ModelError, PlanMissingError, RunError
from engines.model_spec import ModelSpec
from engines.runtime import Runtime, RuntimeOptions, open_runtime
from pipeline.accuracy.calibration import calibration_from
from pipeline.config.sections import Config
from pipeline.infer.input_sizes import SizedModel, input_size, size_text, smaller_inputs
from pipeline.infer.sized_runtime import SizedRuntime


class SmallerInputs:
    """The smaller inputs that a configuration asks for; none where no stream may run smaller."""

    def __init__(self, config: Config, model: Path, spec: ModelSpec) -> None:
        """Raises ConfigError where a stream may run smaller and the model cannot, ModelError for a bad file."""
        self._infer = config.infer
        self._spec = spec
        adapts = (config.overload.adapt, *(stream.adapt for stream in config.streams))
        asked = bool(self._infer.smaller) or "resolution" in adapts
        self._models = smaller_inputs(model, spec, self._infer.smaller, self._infer.facts) if asked else []

    @property
    def exist(self) -> bool:
        """Whether there are any."""
        return bool(self._models)

    def open_beside(self, full: Runtime, options: RuntimeOptions) -> Runtime:
        """Return ``full`` together with the smaller inputs on the same runtime; ``full`` itself where there are none.

        ``options``: those of ``full``. Raises ModelError and what ``open_runtime`` raises; ``full`` is closed then.
        """
        if not self._models:
            return full
        # Slots pair up only where every size shares out the cores in the same way.
        if full.concurrent_runs < len(full.slots):
            options = replace(options, prefer="latency")
        else:
            options = replace(options, prefer="throughput", threads=len(full.slots))
        with ExitStack() as opened:
            opened.enter_context(full)
            runtimes = [(one.spec, opened.enter_context(self._open(full.name, one, options))) for one in self._models]
            sized = SizedRuntime(full, self._spec, runtimes)
            opened.pop_all()
        return sized

    def _open(self, name: str, one: SizedModel, options: RuntimeOptions) -> Runtime:
        size = input_size(one.spec)
        same_file = one.spec.sha256 == self._spec.sha256
        if not same_file:
            infer = self._infer
            calibration = calibration_from(
                infer.calibration, one.spec, infer.calibration_pictures, infer.calibration_method
            )
            options = replace(options, calibration=calibration)
        try:
            return open_runtime(name, one.model, one.spec, options)
        except DeviceMemoryError:
            raise
        except RunError as error:
            raise ModelError(
                f"infer.smaller: model {one.spec.name} does not run at {size[0]}x{size[1]}: {error} Export it at that "
                "size, and name the file in infer.smaller."
            ) from error
        except PlanMissingError as error:  # it ends in the command that builds the plan
            stated = f" --set input_size={list(size)}" if same_file else ""
            raise PlanMissingError(f"input {size_text(size)}: {error}{stated}") from error
