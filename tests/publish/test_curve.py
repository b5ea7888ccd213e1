"""Keys: who is on the list reads, strangers get nothing and harm nobody."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.errors import InputError
from pipeline.publish.curve import PublisherKeys, SubscriberKeys, make_keys
from pipeline.publish.messages import StatusMessage
from pipeline.publish.zmq_sink import ZmqSink
from pipeline.subscriber import Subscriber
from tests.helpers.onpace_process import OnpaceProcess, onpace
from tests.helpers.tiny_onnx import do_nothing_detector
from tests.publish.examples import free_endpoint, join, make_publisher, make_result, make_status


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of a publisher, a friend and a stranger; the friend is on the list ``allow``."""
    for name in ("publisher", "friend", "stranger"):
        make_keys(tmp_path / name)
    (tmp_path / "allow").mkdir()
    shutil.copy(tmp_path / "friend.key", tmp_path / "allow")
    return tmp_path


def subscriber(endpoint: str, keys: Path, name: str, publisher: str = "publisher") -> Subscriber:
    return Subscriber(endpoint, keys=SubscriberKeys.load(keys / f"{name}.key_secret", keys / f"{publisher}.key"))


def test_a_friend_reads_and_strangers_get_nothing(keys):
    endpoint = free_endpoint()
    publisher = make_publisher(
        ZmqSink(endpoint, "msgpack", PublisherKeys.load(keys / "publisher.key_secret", keys / "allow"))
    )
    with (
        Subscriber(endpoint) as without_keys,
        subscriber(endpoint, keys, "stranger") as not_listed,
        subscriber(endpoint, keys, "friend", publisher="stranger") as wrong_publisher,
        subscriber(endpoint, keys, "friend") as friend,
    ):
        join(publisher, friend)
        publisher.publish(make_result("gate"), wait_seconds=0.0)
        publisher.publish_status(make_status("gate"))
        events = []
        while not any(isinstance(event, StatusMessage) for event in events):
            event = friend.receive(5.0)
            assert event is not None, events
            events.append(event)
        for stranger in (without_keys, not_listed, wrong_publisher):
            assert stranger.receive(0.3) is None
        shutil.copy(keys / "stranger.key", keys / "allow")  # no restart is needed to let somebody in
        with subscriber(endpoint, keys, "stranger") as listed_now:
            join(publisher, listed_now)
    publisher.close()


def test_the_commands_meet_with_keys(keys):
    endpoint = free_endpoint()
    model = do_nothing_detector(keys / "nothing.onnx", size=(160, 96))
    config = keys / "camera.yaml"
    config.write_text(
        f"streams: [{{id: gate, url: 'pattern:?fps=20', realtime: true}}]\ninfer: {{model: {model}}}\n"
        f"publish: {{sinks: ['zmq:{endpoint}'], curve: {{keys: publisher.key_secret, allow: allow}}}}\n"
    )
    pair = ("--keys", keys / "friend.key_secret", "--publisher-key", keys / "publisher.key")
    with OnpaceProcess("run", config) as running:
        running.wait_for("live:")
        heard = onpace("listen", endpoint, "--count", "3", "--for", "20s", *pair)
        assert heard.wait() == 0
        assert heard.stdout.splitlines()[-1] == "gate: received 3, gaps 0, lost 0"
        unheard = onpace("listen", endpoint, "--for", "1s")
        assert "gate" not in unheard.stdout


def test_keys_are_never_written_over_and_the_secret_is_the_owners_alone(tmp_path):
    done = onpace("keys", tmp_path / "keys" / "me")
    assert done.wait() == 0
    secret = tmp_path / "keys" / "me.key_secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    again = onpace("keys", tmp_path / "keys" / "me")
    assert again.wait() == 2
    assert "exists already" in again.stderr


def test_files_that_are_no_keys_are_told_apart(keys, tmp_path):
    with pytest.raises(InputError, match="no secret key"):
        PublisherKeys.load(keys / "publisher.key", keys / "allow")
    with pytest.raises(InputError, match="no such folder"):
        PublisherKeys.load(keys / "publisher.key_secret", keys / "absent")
    (tmp_path / "text.key").write_text("nothing")
    with pytest.raises(InputError, match="no key file"):
        SubscriberKeys.load(keys / "friend.key_secret", tmp_path / "text.key")
    (tmp_path / "short.key").write_text('curve\n    public-key = "abc"\n')
    with pytest.raises(InputError, match="40 characters"):
        SubscriberKeys.load(keys / "friend.key_secret", tmp_path / "short.key")
    half = onpace("listen", "tcp://127.0.0.1:5555", "--keys", keys / "friend.key_secret")
    assert half.wait() == 2
    assert "belong together" in half.stderr


def test_an_open_address_is_a_warning_only_without_keys(keys):
    config = keys / "x.yaml"
    text = "streams: [{id: a, url: 'pattern:'}]\ninfer: {model: sample:street.onnx}\npublish: {sinks: ['zmq:tcp://0.0.0.0:5599']"
    config.write_text(text + "}\n")
    assert any("publish.curve" in warning.message for warning in load(config).warnings)
    config.write_text(text + ", curve: {keys: publisher.key_secret, allow: allow}}\n")
    loaded = load(config)
    assert not loaded.warnings
    assert loaded.config.publish.curve is not None
    assert loaded.config.publish.curve.keys == str(keys / "publisher.key_secret")
