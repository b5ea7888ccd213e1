"""The server over real sockets: what it answers, whom it refuses, and that nobody can hold it up."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import threading

import numpy as np
import pytest

from engines.runtime import RUNTIMES
from pipeline.dashboard.server import MOST_HEAD_BYTES
from pipeline.errors import UrlError
from pipeline.metrics.health import Health
from pipeline.metrics.metrics import Metrics
from pipeline.publish.sink import SINKS
from tests.helpers.onpace_process import OnpaceProcess, onpace
from tests.metrics.scraping import ask, health, port_of, running, wait_until


@pytest.fixture(scope="module")
def metrics():
    """The server alone, as it is while the model is being loaded."""
    found = Metrics("127.0.0.1:0")
    yield found
    found.close()


class StuckSink:
    """A sink that never comes back, whatever it promised."""

    release = threading.Event()
    lost = 0

    def __init__(self, rest, encoding, keys=None):
        self.address = f"stuck:{rest}"

    def send(self, message):
        self.release.wait(30)

    def flush(self):
        pass

    def tick(self):
        self.release.wait(30)

    def close(self):
        pass


def test_before_the_model_is_loaded_it_lives_and_is_not_ready(metrics):
    port = metrics.server.port
    assert ask(port, "/livez") == (200, "starting\n")
    assert ask(port, "/readyz") == (503, "starting: the model is being loaded\n")
    report = health(port)
    assert (report["alive"], report["ready"], report["streams"]) == (True, False, [])
    assert "onpace_build_info" in ask(port, "/metrics")[1]


def test_a_dead_camera_fails_neither_livez_nor_readyz_and_healthz_says_why(nothing):
    urls = ("pattern:?fps=25", "rtsp://admin:canary1@127.0.0.1:9/x?password=canary2")
    with running(nothing, *urls) as pipeline:
        port = port_of(pipeline)
        wait_until(lambda: health(port)["verdict"] == "offline", "the camera to be offline")
        wait_until(lambda: health(port)["streams"][0]["published"] > 5, "the other stream to play")
        assert ask(port, "/livez")[0] == 200
        assert ask(port, "/readyz")[0] == 200
        status, text = ask(port, "/healthz")
        good, dead = json.loads(text)["streams"]
    assert status == 200
    assert "canary" not in text
    assert (good["id"], good["state"], good["last_error"]) == ("s0", "live", "")
    assert good["published"] > 0
    assert dead["state"] in ("waiting", "connecting")  # it is tried again now and then
    assert dead["verdict"] == "offline"
    assert "cannot be opened" in dead["last_error"]


def test_a_hanging_publish_thread_fails_livez(nothing, monkeypatch):
    monkeypatch.setitem(SINKS, "stuck", f"{__name__}:StuckSink")
    StuckSink.release.clear()
    with running(nothing, "pattern:?fps=25", publish={"sinks": ["stuck:x"]}) as pipeline:
        impatient = Health(lambda: pipeline, stuck_seconds=1.0)
        wait_until(lambda: not impatient.alive().ok, "the hang to be noticed", 5.0)
        assert "publish thread" in impatient.alive().words
        assert not impatient.ready().ok
        assert ask(port_of(pipeline), "/livez")[0] == 200, "ten seconds of patience are not over"
        StuckSink.release.set()
        wait_until(lambda: impatient.alive().ok, "the hang to be over", 5.0)


class HangingRuntime:
    """A runtime whose second run does not come back until it is released."""

    release = threading.Event()

    def __init__(self, model, spec, options):
        self.name, self.max_batch, self.concurrent_runs, self.runs = "hanging", 1, 1, 0
        self.input = np.zeros((1, 3, spec.input_height, spec.input_width), np.float32)
        self.slots = (self,)
        self._outputs = {one.name: np.zeros([size or 1 for size in one.shape], np.float32) for one in spec.outputs}

    def run(self, batch_size, extra=None):
        self.runs += 1
        if self.runs > 1:
            self.release.wait(30)
        return self._outputs

    def describe(self):
        return "hangs"

    def close(self):
        """Nothing to give back."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def test_a_run_of_the_model_that_never_comes_back_shows_in_the_verdict_and_fails_livez(nothing, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "cpu", f"{__name__}:HangingRuntime")
    HangingRuntime.release.clear()
    with running(nothing, "pattern:?fps=25", infer={"model": str(nothing), "runtime": "cpu"}) as pipeline:
        impatient = Health(lambda: pipeline, stuck_seconds=0.5)
        wait_until(lambda: not impatient.alive().ok, "the hang to be noticed", 10.0)
        assert "a run of the model has not come back" in impatient.alive().words
        wait_until(lambda: pipeline.status()[0].verdict == "stalled", "the verdict", 10.0)
        assert pipeline.status()[0].cause.startswith("infer: nothing published for ")
        HangingRuntime.release.set()
        wait_until(lambda: impatient.alive().ok, "the hang to be over", 5.0)


def test_a_pipeline_that_is_draining_is_not_ready(nothing):
    with running(nothing, "pattern:?fps=25") as pipeline:
        port = port_of(pipeline)
        assert ask(port, "/readyz") == (200, "ready\n")
        pipeline.stop()
        assert ask(port, "/readyz") == (503, "stopping\n")
        assert ask(port, "/livez")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "", "127.0.0.1.evil.example", "[::2]", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/healthz", "/"])
def test_a_name_that_is_not_ours_is_refused(metrics, host, path):
    status, text = ask(metrics.server.port, path, Host=host)
    assert status == 421
    assert "onpace_" not in text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:1", "[::1]:9464", "[::1]"])
def test_names_of_this_machine_are_taken(metrics, host):
    assert ask(metrics.server.port, "/livez", Host=host)[0] == 200


def test_bound_to_every_address_it_takes_numbers_but_no_foreign_names():
    metrics = Metrics("0.0.0.0:0")
    assert ask(metrics.server.port, "/livez", Host="192.168.1.5:9464")[0] == 200
    assert ask(metrics.server.port, "/livez", Host=socket.gethostname())[0] == 200
    assert ask(metrics.server.port, "/livez", Host="evil.example")[0] == 421
    metrics.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_is_answered(metrics, method):
    assert ask(metrics.server.port, "/metrics", method=method)[0] == 405


def test_other_paths_name_those_that_exist(metrics):
    status, text = ask(metrics.server.port, "/../../etc/passwd")
    assert status == 404
    assert "/healthz" in text


def send(port: int, content: bytes) -> bytes:
    """Send raw bytes; return everything that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        received = b""
        try:
            client.sendall(content)
            while part := client.recv(65536):
                received += part
        except ConnectionError:
            pass
        return received


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_what_is_no_proper_request_gets_no_figures_and_harms_nothing(metrics, content):
    assert b"200 OK" not in send(metrics.server.port, content)
    assert ask(metrics.server.port, "/livez")[0] == 200


def test_an_endless_head_is_cut_off(metrics):
    answer = send(metrics.server.port, b"GET /livez HTTP/1.1\r\nX: " + b"x" * (4 * MOST_HEAD_BYTES))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("beginning", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"])
def test_connections_that_send_no_request_hold_nobody_up_and_are_hung_up_on(metrics, beginning):
    silent = [socket.create_connection(("127.0.0.1", metrics.server.port), timeout=30) for _ in range(50)]
    for connection in silent:
        connection.sendall(beginning)
    threads = threading.active_count()
    assert ask(metrics.server.port, "/livez")[0] == 200
    assert threading.active_count() <= threads + 1, "a worker for the request that was one"
    for connection in silent:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        connection.close()


def test_many_who_ask_at_once_are_all_answered(nothing):
    with running(nothing, "pattern:?fps=25") as pipeline:
        port = port_of(pipeline)
        statuses = []
        threads = [
            threading.Thread(target=lambda: statuses.extend(ask(port, "/metrics")[0] for _ in range(5)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert statuses == [200] * 40


def test_the_server_ends_with_its_pipeline(nothing):
    with running(nothing, "pattern:?fps=25") as pipeline:
        port = port_of(pipeline)
        assert ask(port, "/livez")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")
    pipeline.metrics.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("metrics-")]


def test_without_an_address_nothing_listens(nothing):
    with running(nothing, "pattern:?frames=5", metrics={}) as pipeline:
        assert pipeline.metrics.server is None
        assert pipeline.wait(10)


def test_a_port_that_is_taken_is_one_clear_error(metrics):
    with pytest.raises(UrlError, match=r"metrics\.listen '127\.0\.0\.1:\d+': .*in use"):
        Metrics(f"127.0.0.1:{metrics.server.port}")


def test_the_command_serves_while_it_runs(nothing):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with OnpaceProcess(
        "run", "pattern:?fps=25", "--realtime", "--model", nothing, "--metrics", f"127.0.0.1:{port}", "--for", "20s"
    ) as process:
        process.wait_for("metrics and health on")
        wait_until(lambda: ask(port, "/readyz")[0] == 200, "it to be ready")
        wait_until(lambda: health(port)["verdict"] == "keeping_up", "it to keep up")
        process.signal(signal.SIGTERM)
        assert process.wait(15) == 0
    with pytest.raises((ConnectionRefusedError, http.client.HTTPException)):
        ask(port, "/livez")


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", "http://127.0.0.1:9464"])
def test_an_address_that_is_none_is_refused_with_an_example(nothing, address):
    process = onpace("run", "pattern:?frames=5", "--model", nothing, "--metrics", address)
    assert process.wait() == 2
    assert "127.0.0.1:9464" in process.stderr
    assert "Traceback" not in process.stderr
