"""The control API as others see it: who may ask, what is refused and how, and whether it is what it says it is."""

from __future__ import annotations

import http.client
import json
import logging

import jsonschema
import pytest
from openapi_spec_validator import validate

from pipeline.config.load import config_from_mapping
from pipeline.config.sections import DashboardSection
from pipeline.dashboard.dashboard import Dashboard
from pipeline.dashboard.guard import MOST_BODY_BYTES
from pipeline.errors import ConfigError, UrlError
from tests.dashboard.steering import steered
from tests.helpers.tiny_onnx import do_nothing_detector

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    return do_nothing_detector(tmp_path_factory.mktemp("models") / "nothing.onnx", size=(160, 96))


@pytest.fixture(scope="module")
def running(nothing):
    with steered(nothing) as found:
        yield found


@pytest.fixture(scope="module")
def closed(nothing):
    """One that wants a token."""
    with steered(nothing, dashboard={"token": TOKEN}) as found:
        yield found


def operations(description):
    for path, found in description["paths"].items():
        for method, operation in found.items():
            if method != "parameters":
                yield method.upper(), path, operation


def test_the_description_is_valid_and_every_answer_is_as_described(running):
    _, description = running.ask("GET", "/openapi.json")
    validate(description)
    requests = {
        "listStreams": (None, {}),
        "showStream": (None, {"id": "s0"}),
        "addStream": ({"id": "described", "url": "pattern:", "realtime": True}, {}),
        "changeStream": ({"weight": 2}, {"id": "described"}),
        "pauseStream": (None, {"id": "described"}),
        "resumeStream": (None, {"id": "described"}),
        "restartStream": (None, {"id": "described"}),
        "removeStream": (None, {"id": "described"}),
    }
    order = list(requests)
    described = [one for one in operations(description) if one[2]["operationId"] != "readEvents"]
    assert {operation["operationId"] for _, _, operation in described} == set(requests)
    for method, path, operation in sorted(described, key=lambda one: order.index(one[2]["operationId"])):
        body, values = requests[operation["operationId"]]
        status, answer = running.ask(method, path.format(**values), body)
        assert str(status) in operation["responses"], (method, path, status, answer)
        assert status < 300, answer
        check(answer, operation["responses"][str(status)], description)
    for method, path, operation in described:
        if "{id}" in path:
            status, answer = running.ask(method, path.format(id="nobody"), {} if method == "PATCH" else None)
            assert status == 404
            check(answer, operation["responses"]["404"], description)


def check(answer, response, description):
    schema = {**response["content"]["application/json"]["schema"], "components": description["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, {"id", "url"}),
        ({"id": "a b", "url": "pattern:"}, {"id"}),
        ({"id": "x", "url": "gopher://x"}, {"url"}),
        ({"id": "x", "url": "/no/such/file.mp4"}, {"url"}),
        ({"id": "x", "url": "pattern:", "wieght": 2, "weight": -1}, {"wieght", "weight"}),
        ({"id": "x", "url": "rtsp://u:canary@127.0.0.1:1/x", "policy": "block"}, {"policy"}),
    ],
)
def test_a_stream_that_cannot_be_is_refused_with_every_problem(running, body, paths):
    status, answer = running.ask("POST", "/api/streams", body)
    assert (status, answer["error"]["code"]) == (422, "invalid")
    assert {problem["path"] for problem in answer["error"]["problems"]} == paths
    assert "canary" not in json.dumps(answer)
    assert "streams[0]" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("POST", "/api/streams", {"id": "s0", "url": "pattern:"}, 409, "conflict", "another name"),
        ("PATCH", "/api/streams/s0", {"url": "pattern:"}, 422, "invalid", "max_fps"),
        ("PATCH", "/api/streams/s0", {"deadline": 3}, 422, "invalid", '"200ms"'),
        ("PATCH", "/api/streams/s0", b"[1]", 400, "not_json", "JSON object"),
        ("PATCH", "/api/streams/s0", b"{", 400, "not_json", "not valid JSON"),
        ("PATCH", "/api/streams/s0", b"[" * 50_000, 400, "not_json", "not valid JSON"),
        ("DELETE", "/api/streams/..%2f..%2fetc", None, 404, "not_found", "there is"),
        ("DELETE", "/api/streams", None, 405, "wrong_method", "allowed: "),
        ("GET", "/api/events?kind=x", None, 400, "invalid", "status, detections"),
        ("GET", "/nothing", None, 404, "not_found", "/openapi.json"),
        ("POST", "/api/streams", b"x" * (MOST_BODY_BYTES + 1), 413, "too_large", "65536"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(running, method, path, body, status, code, words):
    got, answer = running.ask(method, path, body)
    assert (got, answer["error"]["code"]) == (status, code)
    assert words in answer["error"]["message"]


def test_a_body_without_a_length_is_bounded_too(running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    chunks = (b"x" * 10_000 for _ in range(20))
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/streams", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_page_of_another_site_can_do_nothing(running, headers, status):
    assert running.ask("PATCH", "/api/streams/s0", {"weight": 3}, **headers)[0] == status
    assert running.stream("s0")["weight"] == 1.0


def test_our_own_page_may(running):
    own = running.address
    assert running.ask("PATCH", "/api/streams/s0", {"weight": 1}, Origin=own)[0] == 200


@pytest.mark.parametrize("given", [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
def test_without_the_token_nothing_is_shown_or_done(closed, given):
    headers = {} if given is None else {"Authorization": given}
    for method, path in (
        ("GET", "/api/streams"),
        ("GET", "/api/events"),
        ("GET", "/api/preview?stream=s0"),
        ("GET", "/api/history"),
        ("DELETE", "/api/streams/s0"),
    ):
        status, answer = closed.ask(method, path, **headers)
        assert (status, answer["error"]["code"]) == (401, "token_needed")
    assert TOKEN not in json.dumps(closed.ask("GET", "/api/streams", Authorization=f"Bearer {TOKEN}")[1])


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"])
def test_beyond_this_machine_nothing_starts_without_a_token(listen):
    data = {"streams": [{"id": "s", "url": "pattern:"}], "infer": {"model": "sample:street.onnx"}}
    with pytest.raises(ConfigError, match=r"dashboard\.listen: .*wants a token"):
        config_from_mapping({**data, "dashboard": {"listen": listen}})
    with pytest.raises(ConfigError, match=r"dashboard\.token: is too short.*16"):
        config_from_mapping({**data, "dashboard": {"listen": listen, "token": "short"}})
    with pytest.raises(UrlError, match="token"):
        Dashboard(DashboardSection(listen=listen), cameras=False)


def test_a_taken_port_ends_the_start_where_it_was_asked_for_and_not_where_it_was_not(running, caplog, monkeypatch):
    taken = f"127.0.0.1:{running.port}"
    with pytest.raises(UrlError, match=r"dashboard\.listen .*in use"):
        Dashboard(DashboardSection(listen=taken), cameras=True)
    monkeypatch.setattr("pipeline.dashboard.dashboard.DEFAULT_LISTEN", taken)
    dashboard = Dashboard(DashboardSection(), cameras=True)
    assert dashboard.server is None
    assert "in use" in caplog.text
    dashboard.close()


def test_every_change_is_logged_with_who_made_it_and_without_secrets(running, caplog):
    caplog.set_level(logging.INFO, "onpace.control")
    running.add("logged", "rtsp://admin:canary1@127.0.0.1:1/x?password=canary2", username="u", password="canary3")
    running.ask("PATCH", "/api/streams/logged", {"max_fps": 3})
    answer = running.ask("GET", "/api/streams")[1]
    running.ask("DELETE", "/api/streams/logged")
    said = [record.getMessage() for record in caplog.records if record.name == "onpace.control"]
    assert [line.split(" ")[0:3] for line in said] == [["127.0.0.1:", "stream", "logged"]] * 3
    assert "max_fps 3" in said[1]
    assert "canary" not in caplog.text + json.dumps(answer)


def test_events_begin_with_the_streams_and_go_on_with_what_was_asked_for(running):
    running.add("other")
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", "/api/events?kind=status&kind=detections&stream=s0")
    response = connection.getresponse()
    assert response.getheader("Content-Type", "").startswith("text/event-stream")
    seen: dict[str, list] = {}
    while not {"streams", "status", "detections"} <= seen.keys():
        name = response.readline().decode().removeprefix("event: ").strip()
        data = response.readline().decode().removeprefix("data: ")
        assert response.readline() == b"\n"
        seen.setdefault(name, []).append(json.loads(data))
    connection.close()
    assert [stream["id"] for stream in seen["streams"][0]["streams"]] == ["s0", "other"]
    assert {message["stream_id"] for message in seen["status"] + seen["detections"]} == {"s0"}
    running.ask("DELETE", "/api/streams/other")
