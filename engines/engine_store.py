"""Where plans are kept: by the digest of everything that went into them, whole or not at all, checked before use.

A plan is code that runs with the rights of this process. So the store is its owner's alone, and a plan whose bytes are
not those that were written is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from engines.cache_folder import cache_folder
from engines.errors import PlanError, RunError
from engines.plan_key import ANY_LATER, PlanKey, digest_of

_MANIFEST, _PLAN = ".json", ".plan"
_FORMAT = 2
_INGREDIENTS = frozenset(field.name for field in fields(PlanKey))
_INTERRUPTED_SECONDS = 3600.0
"""A file that is being written for so long is written by nobody any more."""
_LOOK_EVERY_SECONDS = 0.1
"""How often a process that waits for another's build looks whether it is done."""


@dataclass(frozen=True)
class StoredPlan:
    """One plan in the store, as its manifest describes it."""

    path: Path
    digest: str
    """Of the key: the name of its files."""
    sha256: str
    """Of its bytes."""
    nbytes: int
    model_name: str
    ingredients: dict[str, Any]
    """``PlanKey`` as plain data."""
    built_by: str
    """Version of the library that built it."""
    built_at: float
    """Seconds since 1970."""
    build_seconds: float
    earlier_seconds: float
    """Time that went into what it was built from before then: into a typed model that was found made already."""
    used_at: float
    """Seconds since 1970; when it was last loaded, or built."""

    @property
    def whole(self) -> bool:
        """Whether the plan's bytes are there, and those that were built. Reads all of them."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest() == self.sha256
        except OSError:
            return False

    def runs_in(self, version: str) -> bool:
        """Whether it is for the library's ``version``: its own, or with a version-compatible plan a later one."""
        if self.ingredients["version"] == ANY_LATER:
            return _numbers(self.built_by) <= _numbers(version)
        return self.built_by == version

    def read(self) -> bytes:
        """Return the plan's bytes. Raises PlanError where they are not those that were built."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise PlanError(f"plan {self.path}: cannot be read: {error.strerror}. Build it again.") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise PlanError(
                f"plan {self.path} was altered or cut short: it holds {len(data)} bytes that are not the "
                f"{self.nbytes} that were built. A plan is code: it is not loaded. Remove it (onpace engines prune "
                f"--broken{store_option(self.path.parent)}) and build it again."
            )
        with contextlib.suppress(OSError):  # a store that only another user may write
            os.utime(self.path)
        return data


def store_option(folder: Path) -> str:
    """Return what a command needs to find the store in ``folder``: nothing for the user's own."""
    return "" if folder == _usual_folder() else f" --store {shlex.quote(str(folder))}"


def _usual_folder() -> Path:
    return cache_folder() / "plans"


class EngineStore:
    """A folder of plans. Several processes may use it at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises PlanError where others may write there: they could make this process run what they like."""
        self.folder = folder or _usual_folder()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(
                f"engine store {self.folder}: cannot be made: {error.strerror}. Set engine.store (or ONPACE_CACHE) "
                "to a folder that this user may write."
            ) from error
        state = self.folder.stat()
        if state.st_mode & 0o022 or state.st_uid not in (os.geteuid(), 0):
            raise PlanError(
                f"engine store {self.folder}: others may write to it, and a plan is code that runs here. "
                f"chmod go-w '{self.folder}', or set engine.store to a folder of your own."
            )

    def find(self, key: PlanKey, version: str | None = None) -> StoredPlan | None:
        """Return the plan for ``key`` that runs in the library's ``version`` (None: the key's); None where none is.

        Raises PlanError for a damaged manifest.
        """
        manifest = self.folder / f"{key.digest}{_MANIFEST}"
        if not manifest.exists():
            return None
        found = _read_manifest(manifest)
        return found if found.runs_in(version or key.version) else None

    def add(
        self,
        key: PlanKey,
        plan: bytes,
        *,
        model_name: str,
        build_seconds: float,
        earlier_seconds: float = 0.0,
        version: str | None = None,
    ) -> StoredPlan:
        """Write a plan: its bytes first, then the manifest that makes it count. Raises OSError (disk full).

        ``version``: of the library that built it; None: the key's.
        """
        path = self.folder / f"{key.digest}{_PLAN}"
        _write(path, plan)
        now = time.time()
        content = {
            "format": _FORMAT,
            "sha256": hashlib.sha256(plan).hexdigest(),
            "nbytes": len(plan),
            "model_name": model_name,
            "ingredients": key.describe(),
            "built_by": version or key.version,
            "built_at": now,
            "build_seconds": round(build_seconds, 3),
            "earlier_seconds": round(earlier_seconds, 3),
        }
        _write(self.folder / f"{key.digest}{_MANIFEST}", json.dumps(content, indent=2).encode())
        return _read_manifest(self.folder / f"{key.digest}{_MANIFEST}")

    def find_or_build(
        self,
        key: PlanKey,
        model_name: str,
        build: Callable[[], bytes],
        *,
        earlier_seconds: Callable[[], float] = lambda: 0.0,
        version: str | None = None,
        rebuild: bool = False,
        give_up: Callable[[], bool] = lambda: False,
    ) -> StoredPlan:
        """Return the plan for ``key`` that runs in the library's ``version``, built by ``build`` where there is none.

        Of several processes (or threads) that ask at the same time one builds, and the others wait for it; ``give_up``
        ends the wait with RunError. ``earlier_seconds`` is asked once it is built.
        """
        found = None if rebuild else self.usable(key, version)
        if found is not None:
            return found
        asked_at = time.time()
        with self._locked(key.digest, give_up):
            found = self.usable(key, version)
            if found is not None and not (rebuild and found.built_at < asked_at):
                return found
            begun = time.monotonic()
            plan = build()
            with self._written():
                took = time.monotonic() - begun
                return self.add(
                    key,
                    plan,
                    model_name=model_name,
                    build_seconds=took,
                    earlier_seconds=earlier_seconds(),
                    version=version,
                )

    def plans(self) -> list[StoredPlan]:
        """Return every plan, the one used last first. Damaged manifests are left out: ``broken`` has them."""
        plans = []
        for manifest in self.folder.glob(f"*{_MANIFEST}"):
            with contextlib.suppress(PlanError):
                plans.append(_read_manifest(manifest))
        return sorted(plans, key=lambda plan: plan.used_at, reverse=True)

    def broken(self) -> dict[Path, str]:
        """Return the files that are not whole, with what is wrong with each. Reads every plan."""
        found: dict[Path, str] = {}
        for manifest in sorted(self.folder.glob(f"*{_MANIFEST}")):
            try:
                plan = _read_manifest(manifest)
                if not plan.whole:
                    found[plan.path] = "was altered or cut short"
            except (PlanError, OSError) as error:
                found[manifest] = str(error)
        long_ago = time.time() - _INTERRUPTED_SECONDS
        for path in sorted(self.folder.glob(f".*{_PLAN}.*")):
            if path.stat().st_mtime < long_ago:
                found[path] = "is half of a file: writing it was interrupted"
        known = {manifest.stem for manifest in self.folder.glob(f"*{_MANIFEST}")}
        for path in sorted(self.folder.glob(f"*{_PLAN}")):
            if path.stem not in known:
                found[path] = "has no manifest: its build was interrupted"
        return found

    def size(self, digest: str) -> int:
        """Return the bytes that a plan and its manifest take."""
        return sum(path.stat().st_size for path in self._files(digest) if path.exists())

    def remove(self, digest: str) -> int:
        """Remove a plan and its manifest; return the bytes that this frees.

        Its lock stays: somebody may hold it, and another file of that name would let a second one build.
        """
        freed = self.size(digest)
        for path in self._files(digest):
            path.unlink(missing_ok=True)
        return freed

    def _files(self, digest: str) -> list[Path]:
        # The manifest first: without it a plan is not there.
        return [self.folder / f"{digest}{ending}" for ending in (_MANIFEST, _PLAN)]

    def read_timing_cache(self, name: str) -> bytes:
        """Return the kernel timings kept under ``name`` (library, version and GPU); empty where there are none."""
        try:
            return (self.folder / f"{_safe(name)}.timing").read_bytes()
        except OSError:
            return b""

    def write_timing_cache(self, name: str, content: bytes) -> None:
        """Keep kernel timings for the next build."""
        if content:
            _write(self.folder / f"{_safe(name)}.timing", content)

    def usable(self, key: PlanKey, version: str | None = None) -> StoredPlan | None:
        """Return the plan for ``key`` if it is there and whole; a damaged one counts as none, and is built again."""
        try:
            found = self.find(key, version)
        except PlanError:
            return None
        return found if found is not None and found.whole else None

    @contextlib.contextmanager
    def _locked(self, digest: str, give_up: Callable[[], bool]) -> Iterator[None]:
        """Hold the lock of one key; the system gives it back even if this process dies."""
        with self._written():
            lock = (self.folder / f"{digest}.lock").open("w")
        with lock as file:
            while not _got(file):
                if give_up():
                    raise RunError(f"plan {digest}: waiting for another process that builds it was cancelled.")
                time.sleep(_LOOK_EVERY_SECONDS)
            yield

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Turn what keeps this user from writing into PlanError; a full disk stays OSError."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise PlanError(
                f"engine store {self.folder}: cannot be written: {error.strerror}. Have its owner build the plan, or "
                "set engine.store (or ONPACE_CACHE) to a folder that this user may write."
            ) from error


def _got(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_manifest(path: Path) -> StoredPlan:
    try:
        content = json.loads(path.read_bytes())
        plan = path.with_suffix(_PLAN)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}")
        missing = _INGREDIENTS - content["ingredients"].keys()
        if missing or int(content["nbytes"]) < 0:
            raise ValueError(f"without {', '.join(sorted(missing)) or 'a size'}")
        if digest_of(content["ingredients"]) != path.stem:
            raise ValueError("it is of another plan")
        return StoredPlan(
            path=plan,
            digest=path.stem,
            sha256=str(content["sha256"]),
            nbytes=int(content["nbytes"]),
            model_name=str(content["model_name"]),
            ingredients=dict(content["ingredients"]),
            built_by=str(content["built_by"]),
            built_at=float(content["built_at"]),
            build_seconds=float(content["build_seconds"]),
            earlier_seconds=float(content.get("earlier_seconds", 0.0)),
            used_at=plan.stat().st_mtime,
        )
    except FileNotFoundError as error:
        raise PlanError(f"plan {path.stem}: '{error.filename}' is missing. Build it again.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise PlanError(f"plan {path.stem}: its manifest {path} is damaged ({error}). Build it again.") from error


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before, whatever happens meanwhile."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by its owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _safe(name: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "_" for character in name)
