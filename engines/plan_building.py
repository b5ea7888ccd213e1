"""From a model to its plan in the store: what ``onpace build`` does, and ``run`` where no plan is there yet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import length_hint
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.build_process import BuildTask, build_in_process
from engines.builds import Builds
from engines.device import Gpu, open_gpu
from engines.engine_store import EngineStore, StoredPlan, store_option
from engines.errors import ModelError, PlanError, PlanMissingError, RunError, RuntimeMissingError
from engines.model_spec import ModelSpec
from engines.plan_key import ANY_LATER, PlanKey, gpu_identity
from engines.precision.kept import kept_model, made_seconds, made_with, model_digest
from engines.precision.typed_model import CALIBRATED, RECIPE, Calibration
from engines.runtime import RuntimeOptions
from engines.shape_profile import DEFAULT_MAX_BATCH, ShapeProfile
from engines.trt.library import TrtLibrary, find_library
from engines.trt.progress import Progress


@dataclass(frozen=True)
class PlanBuilder:
    """Finds or builds the plan of one model for one GPU."""

    library: TrtLibrary
    gpu: Gpu | None
    """None where the library builds without one."""
    model: Path
    spec: ModelSpec
    options: RuntimeOptions
    store: EngineStore
    key: PlanKey

    @classmethod
    def open(cls, model: Path, spec: ModelSpec, options: RuntimeOptions, *, to_run: bool) -> PlanBuilder:
        """Look at what is here. ``to_run``: a GPU is needed whatever the library can do without one.

        Raises RuntimeMissingError, ModelError, PlanError.
        """
        library = find_library()
        library.require(options.precision)
        gpu = open_gpu(options.gpu) if to_run or not library.builds_without_gpu else None
        shapes = plan_shapes(spec, options)
        needs_calibration = options.precision in CALIBRATED and options.calibration is not None
        key = PlanKey(
            model=model_digest(model),
            runtime=library.flavour,
            version=_version(library, options),
            gpu=gpu_identity(None if library.builds_without_gpu else gpu, options.plans.build),
            precision=options.precision or "as it is",
            calibration=_calibration_digest(options) if needs_calibration else "",
            recipe=RECIPE,
            made_with=made_with(options.precision),
            shapes=shapes,
            input_size=(spec.input_width, spec.input_height),
            options=options.plans.build,
        )
        return cls(library, gpu, model, spec, options, EngineStore(options.plans.store), key)

    def find(self) -> StoredPlan | None:
        """Return the plan where there is one whose bytes are those that were built.

        Of an int8 or fp8 plan the calibration need not be given again: the whole one built last is taken, whatever made
        it. Raises PlanError where all of those are damaged.
        """
        found = self.store.usable(self.key, self.library.version)
        if found is not None or self.options.precision not in CALIBRATED or self.options.calibration is not None:
            return found
        calibrated = self._of_any_calibration()
        for plan in calibrated:
            if plan.whole:
                return plan
        if calibrated:
            prune = f"onpace engines prune --broken{store_option(self.store.folder)}"
            raise PlanError(
                f"model {self.spec.name}: none of its {self.options.precision} plans is whole ({len(calibrated)} were "
                f"altered or cut short). Remove them ({prune}) and build again: {self.command(self.key.shapes)}"
            )
        return None

    def _of_any_calibration(self) -> list[StoredPlan]:
        """Return the plans that differ from this one in their calibration at most, the one built last first."""
        left_open = {"calibration": None, "made_with": None}
        wanted = _as_stored({**self.key.describe(), **left_open})
        same = [plan for plan in self.store.plans() if {**plan.ingredients, **left_open} == wanted]
        runnable = [plan for plan in same if plan.runs_in(self.library.version)]
        return sorted(runnable, key=lambda plan: plan.built_at, reverse=True)

    def find_or_build(self, *, rebuild: bool = False) -> StoredPlan:
        """Return the plan, built now where there is none, or none that is whole."""
        found = None if rebuild else self.find()
        if found is not None:
            self._builds.found(self.library.flavour, self.options.precision)
            return found
        if not self.library.builds:
            raise RuntimeMissingError(
                f"{self.library.flavour} {self.library.version} here can run plans, but not build them, and there is "
                f"no plan for {self.spec.name}. Build it where the whole library is, for the same GPU."
            )
        built, earlier_seconds = False, 0.0

        def build() -> bytes:
            nonlocal built, earlier_seconds
            built = True
            plan, earlier_seconds = self._build()
            return plan

        plan = self.store.find_or_build(
            self.key,
            self.spec.name,
            build,
            earlier_seconds=lambda: earlier_seconds,
            version=self.library.version,
            rebuild=rebuild,
            give_up=self._cancelled,
        )
        if not built:  # another process did, while this one waited
            self._builds.found(self.library.flavour, self.options.precision)
        return plan

    def require(self) -> StoredPlan:
        """Return the plan. Raises PlanMissingError where there is none and none may be built now."""
        if self.options.plans.may_build:
            return self.find_or_build()
        found = self.find()
        if found is not None:
            self._builds.found(self.library.flavour, self.options.precision)
        else:
            raise PlanMissingError(
                f"model {self.spec.name}: no whole plan of {self.library.flavour} {self.library.version} for "
                f"{self.key.gpu}, precision {self.key.precision}, batch {self.key.shapes}. Build it: "
                f"{self.command(self.key.shapes)}"
            )
        return found

    def command(self, shapes: ShapeProfile) -> str:
        """Return the command that builds this plan, for those batches. Calibration sources it leaves to the reader."""
        options, build, calibration = self.options, self.options.plans.build, self.options.calibration
        words = ["onpace build", str(self.model)]
        if options.precision is not None:
            words.append(f"--precision {options.precision}")
        words.append(f"--batch {shapes}")
        if options.precision in CALIBRATED:
            words.append("--calibration SOURCE")
            if calibration is not None and calibration.pictures != Calibration.pictures:
                words.append(f"--calibration-pictures {calibration.pictures}")
            if calibration is not None and calibration.method != Calibration.method:
                words.append(f"--calibration-method {calibration.method}")
        if build.optimisation_level is not None:
            words.append(f"--optimisation-level {build.optimisation_level}")
        if build.workspace_bytes is not None:
            words.append(f"--workspace {build.workspace_bytes >> 20}")
        words += ["--hardware-compatible"] if build.hardware_compatible else []
        words += ["--version-compatible"] if build.version_compatible else []
        words += [f"--gpu {options.gpu}"] if options.gpu else []
        return " ".join(words) + store_option(self.store.folder)

    @property
    def _builds(self) -> Builds:
        return self.options.builds

    def _build(self) -> tuple[bytes, float]:
        with self._builds.making(self.library.flavour, self.options.precision, self._cancelled):
            return self._built()

    def _cancelled(self) -> bool:
        progress = self.options.plans.progress
        return progress is not None and progress.cancelled

    def _built(self) -> tuple[bytes, float]:
        """Return the plan, and the seconds that making the typed model took where that was done before."""
        timings = f"{self.library.flavour}-{self.library.version}-{self.key.gpu}"
        options = self.options
        typed, earlier_seconds = self.model, 0.0
        if options.precision is not None:
            calibration, progress = options.calibration, options.plans.progress
            if calibration is not None and progress is not None:
                calibration = replace(calibration, tensors=_Followed(calibration.tensors, progress))
            making = Builds()
            typed = kept_model(self.model, self.spec, options.precision, calibration, count=(making, ""))
            if any(one.builds for one in making.counts() if one.result == "found"):
                earlier_seconds = made_seconds(typed) or 0.0
        task = BuildTask(
            self.library.flavour,
            None if self.gpu is None else self.gpu.index,
            typed,
            self.spec,
            self.key.shapes,
            options.plans.build,
            self.store.read_timing_cache(timings),
        )
        plan, measured = build_in_process(task, options.plans.progress)
        self.store.write_timing_cache(timings, measured)
        return plan, earlier_seconds


def _version(library: TrtLibrary, options: RuntimeOptions) -> str:
    """Return what a plan says of its library's version: one that later versions run is found by them, too."""
    return ANY_LATER if options.plans.build.version_compatible else library.version


def plan_shapes(spec: ModelSpec, options: RuntimeOptions) -> ShapeProfile:
    """Return the batches that the plan is for. Raises ModelError where more is asked than it will take."""
    wanted = options.max_batch
    stated = options.plans.shapes
    if stated is None:
        return ShapeProfile.of(spec, max(wanted or 1, DEFAULT_MAX_BATCH))
    if spec.max_batch is not None and (stated.min_batch, stated.max_batch) != (spec.max_batch,) * 2:
        raise ModelError(
            f"model {spec.name}: batch {stated} was asked for, but the file fixes its batch at {spec.max_batch}. "
            "Export it with a dynamic batch, or leave the batch out."
        )
    if wanted is not None and wanted > stated.max_batch:
        raise ModelError(f"batch_size {wanted} is more than the {stated.max_batch} that the plan is built for.")
    return stated


@dataclass(frozen=True)
class _Followed:
    """Calibration pictures that tell how many of them are done, and end with RunError once the build is cancelled."""

    pictures: Iterable[NDArray[Any]]
    progress: Progress

    def __iter__(self) -> Iterator[NDArray[Any]]:
        count = length_hint(self.pictures)
        of = f" of {count}" if count else ""
        self.progress.reached(0.0, "calibrating")
        for number, picture in enumerate(self.pictures, 1):
            if self.progress.cancelled:
                raise RunError("building was cancelled while it was calibrated.")
            self.progress.reached(0.0, f"calibrating, picture {number}{of}")
            yield picture


def _calibration_digest(options: RuntimeOptions) -> str:
    calibration = options.calibration
    if calibration is None:
        return ""
    return f"{calibration.digest} {calibration.method} {calibration.percentile:g}"


def _as_stored(ingredients: dict[str, object]) -> dict[str, object]:
    stored: dict[str, object] = json.loads(json.dumps(ingredients))
    return stored
