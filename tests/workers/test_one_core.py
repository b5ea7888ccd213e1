"""A worker keeps to one core, leaves it to others, and lets go what does not wait for Python's lock."""

import os
import threading
import time

import pytest

from engines import cores
from engines.cores import all_cores, best_first, children_roam, keep_to, roam, usable_cores
from pipeline.workers import one_core
from pipeline.workers.one_core import OneCore

HERE = sorted(os.sched_getaffinity(0), reverse=True)
"""In the order in which they are chosen."""

pytestmark = pytest.mark.skipif(len(HERE) < 2, reason="needs two cores")


@pytest.fixture(autouse=True)
def _all_cores_afterwards():
    yield
    for thread in threading.enumerate():
        os.sched_setaffinity(thread.native_id, set(HERE))
    cores._all_cores = None


class Stat:
    """A /proc/stat that says what each core did."""

    def __init__(self, path):
        self.path = path
        self.busy = dict.fromkeys(HERE, 0.0)
        self.write()

    def write(self):
        lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
        lines += [f"cpu{core} {round(100 * busy)} 0 0 12345 678 0 0 0 0 0" for core, busy in self.busy.items()]
        self.path.write_text("\n".join([*lines, "intr 1 2 3", ""]))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function: seconds go by, in which each core is busy for a share of the time, the worker for another."""
    stat, now = Stat(tmp_path / "stat"), {"at": 1000.0, "own": 5.0}
    monkeypatch.setattr(one_core, "monotonic", lambda: now["at"])
    monkeypatch.setattr(one_core, "cpu_seconds", lambda: now["own"])

    def pass_by(own=0.0, **shares):
        now["at"] += 1.0
        now["own"] += own
        for core, share in shares.items():
            stat.busy[HERE[int(core[1:])]] += share
        stat.write()

    pass_by.path = stat.path
    return pass_by


def test_workers_have_a_core_each(machine):
    first, second = OneCore(1, 2, machine.path), OneCore(2, 2, machine.path)
    machine(c0=0.9, c1=0.9)  # of workers that have not chosen yet
    first.look()
    second.look()
    assert (first.core, second.core) == (HERE[0], HERE[1])
    assert os.sched_getaffinity(0) == {HERE[1]}
    assert (all_cores(), usable_cores()) == (frozenset(HERE), len(HERE))


def test_its_own_work_does_not_drive_a_worker_away_but_that_of_others_does(machine):
    worker = OneCore(1, 1, machine.path)
    machine()
    worker.look()
    for _ in range(5):
        machine(own=0.95, c0=1.0)
        worker.look()
    assert worker.core == HERE[0]
    machine(own=0.5, c0=1.0)
    worker.look()
    assert worker.core == HERE[0]  # for a moment
    machine(own=0.5, c0=1.0)
    worker.look()
    assert worker.core in HERE[1:]


def test_a_worker_that_leaves_its_core_goes_to_no_other_workers(machine):
    worker = OneCore(1, len(HERE), machine.path)
    machine()
    worker.look()
    for _ in range(2):
        machine(own=0.5, c0=1.0)
        worker.look()
    assert worker.core is None
    machine(c0=1.0)
    worker.look()
    assert worker.core is None
    machine()  # nobody wants it any more
    worker.look()
    assert worker.core == HERE[0]


def test_a_core_that_answers_a_device_all_the_time_is_left(machine, tmp_path):
    told = tmp_path / "interrupts"

    def answer(count):
        cores = sorted(HERE)
        head = "     ".join(f"CPU{core}" for core in cores)
        device = "  ".join(str(count if core == HERE[0] else 3) for core in cores)
        own = "  ".join(str(9 * count) for _ in cores)
        told.write_text(f"      {head}\n 42:  {device}  PCI-MSIX  2-edge  nvidia\nLOC:  {own}  Local timer\nERR:  0\n")

    answer(0)
    worker = OneCore(1, 1, machine.path, told)
    machine()
    worker.look()
    assert worker.core == HERE[0]
    for second in (1, 2):
        answer(9000 * second)  # which costs its own process: nobody else is seen there
        machine(own=0.6, c0=0.6)
        worker.look()
    assert worker.core in HERE[1:]


def test_where_every_core_is_wanted_a_worker_may_be_anywhere(machine):
    worker = OneCore(1, 1, machine.path)
    machine()
    worker.look()
    busy = {f"c{place}": 1.0 for place in range(len(HERE))}
    for _ in range(2):
        machine(own=0.2, **busy)
        worker.look()
    assert worker.core is None
    assert os.sched_getaffinity(0) == set(HERE)


def system_of(folder, siblings, megahertz):
    """Write what Linux tells of cores: the threads of each one's physical core, and how fast it may become."""
    for core, threads in siblings.items():
        topology = folder / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{threads}\n")
    for core, speed in megahertz.items():
        (folder / f"cpu{core}" / "cpufreq").mkdir()
        (folder / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq").write_text(f"{1000 * speed}\n")
    return folder


@pytest.mark.parametrize(
    ("siblings", "megahertz", "order"),
    [
        pytest.param({}, {}, [3, 2, 1, 0], id="nothing is told"),
        pytest.param({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, {}, [3, 2, 1, 0], id="second threads come last"),
        pytest.param({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, {}, [3, 1, 2, 0], id="neighbours share a core"),
        pytest.param(
            {0: "0-1", 1: "0-1", 2: "2", 3: "3"},
            {0: 5000, 1: 5000, 2: 3800, 3: 3800},
            [1, 3, 2, 0],
            id="one fast core of two threads, two slow ones",
        ),
        pytest.param({0: "0,8", 1: "1,9", 2: "?", 3: "3,11"}, {}, [3, 2, 1, 0], id="threads that are not ours"),
    ],
)
def test_work_goes_to_cores_of_its_own_first_and_to_the_fastest(tmp_path, siblings, megahertz, order):
    assert best_first(range(4), system_of(tmp_path, siblings, megahertz)) == order


def test_threads_begin_where_the_worker_is_and_move_with_it_unless_they_roam(machine):
    done, seen = threading.Event(), {}

    def stay():
        done.wait(10)

    def wander():
        roam()
        seen["child"] = None
        child = threading.Thread(target=lambda: seen.update(child=os.sched_getaffinity(0)))
        child.start()
        child.join()
        done.wait(10)

    keep_to(frozenset({HERE[0]}))
    staying, roaming = threading.Thread(target=stay), threading.Thread(target=wander)
    for thread in (staying, roaming):
        thread.start()
    until = time.monotonic() + 10
    while seen.get("child") is None and time.monotonic() < until:
        time.sleep(0.01)
    assert os.sched_getaffinity(staying.native_id) == {HERE[0]}
    keep_to(frozenset({HERE[1]}))
    assert os.sched_getaffinity(staying.native_id) == {HERE[1]}
    assert os.sched_getaffinity(roaming.native_id) == seen["child"] == set(HERE)
    done.set()
    staying.join()
    roaming.join()


def test_where_the_system_refuses_a_thread_goes_on_where_it_is(monkeypatch):
    monkeypatch.setattr(cores, "_all_cores", frozenset({10_000}))  # there is no such core
    seen = {}

    def wander():
        roam()
        seen["at"] = os.sched_getaffinity(0)

    thread = threading.Thread(target=wander)
    thread.start()
    thread.join()
    assert seen == {"at": set(HERE)}


def test_a_thread_that_stays_may_start_others_that_roam():
    keep_to(frozenset({HERE[0]}))
    seen = []
    child = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
    with children_roam():
        child.start()
    child.join()
    assert seen == [set(HERE)]
    assert os.sched_getaffinity(0) == {HERE[0]}


def test_where_the_system_does_not_tell_or_does_not_let_it_choose_a_worker_may_be_anywhere(machine, tmp_path):
    blind = OneCore(1, 1, tmp_path / "nothing")
    machine()
    blind.look()
    assert blind.core is None

    elsewhere = OneCore(1, 1, machine.path)
    elsewhere._cores = frozenset({*HERE, 4095})  # a core that is said to be there, and is not
    elsewhere._own = 4095
    lines = machine.path.read_text().splitlines()
    machine.path.write_text("\n".join([*lines, "cpu4095 0 0 0 0 0 0 0 0 0 0"]))
    now = elsewhere._times()
    elsewhere._before = now._replace(at=now.at - 1.0)
    for _ in range(3):
        elsewhere.look()
    assert elsewhere.core is None
    assert os.sched_getaffinity(0) == set(HERE)


def test_the_real_proc_stat_is_understood():
    worker = OneCore(1, 1)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    wanted = worker._wanted()
    assert sorted(wanted, reverse=True) == HERE
    assert 0.2 < sum(wanted.values()) < len(HERE) + 0.2
