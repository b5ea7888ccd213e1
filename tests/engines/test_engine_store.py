"""Plans are kept by everything that went into them, and only whole ones are used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from engines.engine_store import EngineStore
from engines.errors import PlanError, RunError
from engines.plan_key import ANY_LATER, PlanKey
from engines.precision.kept import model_digest
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from tests.helpers.tiny_onnx import do_nothing_detector

KEY = PlanKey(
    model="m",
    runtime="tensorrt",
    version="10.3.0",
    gpu="Orin, 8.7",
    precision="fp16",
    calibration="",
    recipe=1,
    made_with="onnx 1.20.0",
    shapes=ShapeProfile(1, 4, 8),
    input_size=(640, 640),
    options=BuildOptions(),
)
OTHERS = {
    "model": "other",
    "runtime": "tensorrt_rtx",
    "version": "10.3.1",
    "gpu": "Orin, 8.6",
    "precision": "int8",
    "calibration": "other pictures",
    "recipe": 2,
    "made_with": "onnx 1.20.1",
    "shapes": ShapeProfile(1, 4, 16),
    "input_size": (640, 416),
    "options": BuildOptions(optimisation_level=5),
}


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "plans")


def test_every_ingredient_is_tested():
    assert set(OTHERS) == set(KEY.describe())


@pytest.mark.parametrize("ingredient", list(OTHERS))
def test_any_ingredient_that_changes_builds_anew(store, ingredient):
    built = []
    for key in (KEY, KEY, replace(KEY, **{ingredient: OTHERS[ingredient]})):
        store.find_or_build(key, "m", lambda: built.append(1) or b"plan")
    assert len(built) == 2


@pytest.mark.parametrize("option", ["hardware_compatible", "version_compatible", "workspace_bytes"])
def test_any_builder_option_builds_anew(option):
    assert replace(KEY, options=BuildOptions(**{option: 1})).digest != KEY.digest


def test_one_byte_of_the_model_changes_its_digest(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    before = model_digest(model)
    data = bytearray(model.read_bytes())
    place = data.index(b"images")
    data[place : place + 6] = b"imagez"
    data = data.replace(b"images", b"imagez")
    model.write_bytes(data)
    assert model_digest(model) != before


@pytest.mark.parametrize("damage", [lambda plan: plan[:-1], lambda plan: b"x" + plan[1:], lambda plan: b""])
def test_altered_plan_is_not_loaded_and_found_by_verify(store, damage):
    plan = store.add(KEY, b"plan" * 100, model_name="m", build_seconds=1.0)
    assert plan.read() == b"plan" * 100
    plan.path.write_bytes(damage(plan.path.read_bytes()))
    with pytest.raises(PlanError, match=r"altered or cut short.*A plan is code"):
        store.find(KEY).read()
    assert list(store.broken()) == [plan.path]


@pytest.mark.parametrize(("folder", "option"), [(None, ""), ("my plans", " --store '{}'")])
def test_the_remedy_for_an_altered_plan_names_its_store(tmp_path, own_cache, folder, option):
    store = EngineStore(folder and tmp_path / folder)
    plan = store.add(KEY, b"plan", model_name="m", build_seconds=1.0)
    plan.path.write_bytes(b"nalp")
    with pytest.raises(PlanError, match=re.escape(f"(onpace engines prune --broken{option.format(store.folder)}) and")):
        plan.read()


@pytest.mark.parametrize("damage", [b"plan", b"nalp" * 100, None])
def test_plan_that_is_not_whole_is_built_again(store, damage):
    path = store.add(KEY, b"plan" * 100, model_name="m", build_seconds=1.0).path
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert store.find_or_build(KEY, "m", lambda: b"new plan").read() == b"new plan"


def test_removing_a_plan_leaves_its_lock_to_whoever_holds_it(store):
    inside, go_on = threading.Event(), threading.Event()

    def slowly():
        inside.set()
        assert go_on.wait(20)
        return b"one"

    first = threading.Thread(target=lambda: store.find_or_build(KEY, "m", slowly))
    first.start()
    assert inside.wait(20)
    store.remove(KEY.digest)
    second = threading.Thread(target=lambda: store.find_or_build(KEY, "m", lambda: b"two"))
    second.start()
    second.join(0.5)
    assert second.is_alive()
    go_on.set()
    first.join(20)
    second.join(20)
    assert store.find(KEY).read() == b"one"


def test_a_store_that_cannot_be_written_says_so(store):
    (store.folder / f"{KEY.digest}.lock").mkdir()  # nobody can open that for writing, root included
    with pytest.raises(PlanError, match=r"engine store .*: cannot be written: .*engine\.store"):
        store.find_or_build(KEY, "m", lambda: b"plan")


def test_half_written_plan_counts_as_none(store):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.find_or_build(KEY, "m", fail)
    (store.folder / f"{KEY.digest}.plan").write_bytes(b"half")
    assert store.find(KEY) is None
    assert "interrupted" in next(iter(store.broken().values()))


def test_damaged_manifest_says_which(store):
    store.add(KEY, b"plan", model_name="m", build_seconds=1.0)
    (store.folder / f"{KEY.digest}.json").write_text("{")
    with pytest.raises(PlanError, match=r"manifest .* is damaged"):
        store.find(KEY)
    assert store.plans() == []


@pytest.mark.parametrize("change", [{"ingredients": {}}, {"ingredients": []}, {"nbytes": -5}, {"nbytes": 1e400}])
def test_a_manifest_that_lacks_what_lists_show_is_damaged(store, change):
    store.add(KEY, b"plan", model_name="m", build_seconds=1.0)
    manifest = store.folder / f"{KEY.digest}.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    assert store.plans() == []
    assert "is damaged" in store.broken()[manifest]


@pytest.mark.parametrize("altered", [False, True])
def test_a_plan_of_another_key_is_damaged_under_this_one_and_built_again(store, altered):
    other = replace(KEY, model="other")
    stored = store.add(other, b"other plan", model_name="other", build_seconds=1.0)
    manifest = store.folder / f"{KEY.digest}.json"
    content = json.loads(stored.path.with_suffix(".json").read_text())
    if altered:
        content["ingredients"]["shapes"]["max_batch"] = 16
    manifest.write_text(json.dumps(content))
    (store.folder / f"{KEY.digest}.plan").write_bytes(b"other plan")
    with pytest.raises(PlanError, match=r"is damaged .*of another plan"):
        store.find(KEY)
    assert [plan.digest for plan in store.plans()] == [other.digest]
    assert "of another plan" in store.broken()[manifest]
    assert store.find_or_build(KEY, "m", lambda: b"plan").read() == b"plan"
    assert store.broken() == {}


def test_plan_for_later_versions_is_found_from_the_one_on_that_built_it(store):
    key = replace(KEY, version=ANY_LATER, options=BuildOptions(version_compatible=True))
    built = []

    def found_by(version):
        plan = store.find_or_build(key, "m", lambda: built.append(version) or version.encode(), version=version)
        return plan.read().decode()

    asked = ["10.9.0", "10.9.0", "10.16.1", "10.8.0.43", "10.9.0"]
    assert [found_by(version) for version in asked] == ["10.9.0", "10.9.0", "10.9.0", "10.8.0.43", "10.8.0.43"]
    assert built == ["10.9.0", "10.8.0.43"]
    assert store.find(key, "10.8.0.42") is None
    assert store.find(key, "8.6.2") is None


def test_half_of_a_file_is_found_once_nobody_writes_it_any_more(store):
    half = store.folder / f".{KEY.digest}.plan.abc123"
    half.write_bytes(b"half")
    assert store.broken() == {}
    os.utime(half, (0, 0))
    assert "interrupted" in store.broken()[half]


def test_folder_that_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "plans"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PlanError, match=r"others may write to it.*chmod go-w"):
        EngineStore(folder)


def test_two_processes_build_the_same_plan_once(tmp_path):
    script = f"""
import time
from pathlib import Path
from engines.engine_store import EngineStore
from tests.engines.test_engine_store import KEY
def build():
    with open({str(tmp_path / "built")!r}, "a") as file:
        file.write("built\\n")
    time.sleep(1.0)
    return b"plan"
print(EngineStore(Path({str(tmp_path / "plans")!r})).find_or_build(KEY, "m", build).read())
"""
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert answers == [b"b'plan'\n"] * 2
    assert (tmp_path / "built").read_text() == "built\n"


def test_waiting_for_another_that_builds_can_be_given_up(store):
    def build():
        with pytest.raises(RunError, match="waiting for another process that builds it was cancelled"):
            EngineStore(store.folder).find_or_build(KEY, "m", lambda: b"second", give_up=lambda: True)
        return b"first"

    assert store.find_or_build(KEY, "m", build).read() == b"first"


def test_timings_are_shared_by_name(store):
    assert store.read_timing_cache("trt-8.6-Orin, 8.7") == b""
    store.write_timing_cache("trt-8.6-Orin, 8.7", b"timings")
    assert EngineStore(store.folder).read_timing_cache("trt-8.6-Orin, 8.7") == b"timings"
