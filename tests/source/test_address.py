"""Addresses: what each form names, what is refused, and that nothing secret is printed."""

from __future__ import annotations

import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UrlError
from pipeline.frame import Size
from pipeline.samples import find_model, find_sample
from pipeline.source.address import parse_address
from pipeline.source.redact import redact, redact_in

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    ("url", "scheme", "location"),
    [
        ("clip.mp4", "file", "clip.mp4"),
        ("/srv/video/clip with space.mkv", "file", "/srv/video/clip with space.mkv"),
        ("./odd:name.mp4", "file", "./odd:name.mp4"),
        ("file:odd:name.mp4", "file", "odd:name.mp4"),
        ("file:///srv/a%20b.mp4", "file", "/srv/a b.mp4"),
        ("file://localhost/srv/a.mp4", "file", "/srv/a.mp4"),
        ("pictures/*.png", "images", "pictures/*.png"),
        ("images:pictures", "images", "pictures"),
        ("picture.JPG", "images", "picture.JPG"),
        ("camera:0", "camera", "/dev/video0"),
        ("camera:/dev/v4l/by-id/usb-cam-index0", "camera", "/dev/v4l/by-id/usb-cam-index0"),
        ("/dev/video2", "camera", "/dev/video2"),
        ("pattern:", "pattern", ""),
        ("rtsp://cam/live", "rtsp", "/live"),
        ("RTSPS://cam:322/live?channel=1", "rtsps", "/live?channel=1"),
        ("rtsp://cam", "rtsp", ""),
    ],
)
def test_each_form_names_its_source(url, scheme, location):
    address = parse_address(url)
    assert (address.scheme, address.location) == (scheme, location)


def test_a_folder_is_a_folder_of_pictures(tmp_path):
    assert parse_address(str(tmp_path)).scheme == "images"


def test_options_of_patterns_cameras_and_pictures_are_read():
    pattern = parse_address("pattern:?size=320x240&fps=12.5&frames=10&seed=7")
    assert (pattern.size, pattern.fps, pattern.frames, pattern.seed) == (Size(320, 240), 12.5, 10, 7)
    camera = parse_address("camera:1?size=1280x720&fps=30&format=mjpeg")
    assert (camera.location, camera.size, camera.fps, camera.input_format) == (
        "/dev/video1",
        Size(1280, 720),
        30.0,
        "mjpeg",
    )
    assert parse_address("images:shots/*.jpg#fps=2").fps == 2.0


@pytest.mark.parametrize(
    ("url", "host", "port", "username", "password", "location"),
    [
        ("rtsp://u:p@cam:554/a", "cam", 554, "u", "p", "/a"),
        ("rtsp://u:p%40%2F%3A@cam/a", "cam", None, "u", "p@/:", "/a"),
        ("rtsp://u@cam/a", "cam", None, "u", None, "/a"),
        ("rtsp://u:@cam/a", "cam", None, "u", "", "/a"),
        ("rtsp://[2001:db8::1]:8554/a", "2001:db8::1", 8554, None, None, "/a"),
        ("rtsp://u:p@10.0.0.9/a?b=c", "10.0.0.9", None, "u", "p", "/a?b=c"),
        # Written raw, as people do, where only one reading makes sense.
        ("rtsp://u:p@ss@cam/a", "cam", None, "u", "p@ss", "/a"),
        ("rtsp://u:p/w#x?y%@cam/a", "cam", None, "u", "p/w#x?y%", "/a"),
        ("rtsp://u:canary#s/p@:%ss@127.0.0.1:554/a", "127.0.0.1", 554, "u", "canary#s/p@:%ss", "/a"),
        ("rtsp://cam:554/live@1", "cam", 554, None, None, "/live@1"),
        ("rtsp://cam/live@main", "cam", None, None, None, "/live@main"),
    ],
)
def test_rtsp_addresses_are_taken_apart(url, host, port, username, password, location):
    address = parse_address(url)
    assert (address.host, address.port, address.username, address.password, address.location) == (
        host,
        port,
        username,
        password,
        location,
    )


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://u:{CANARY}@host-a/{CANARY}@host-b/x",
        f"rtsp://u:12/{CANARY}@cam/x",
        f"rtsp://u:1?{CANARY}@cam/x",
    ],
)
def test_an_address_that_reads_two_ways_is_refused_because_a_guess_could_send_the_password_elsewhere(url):
    with pytest.raises(UrlError, match=r"more than one way.*Percent-encode") as caught:
        parse_address(url)
    assert CANARY not in str(caught.value)


@given(st.text(min_size=1, max_size=30).filter(lambda text: not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)))
def test_any_password_set_apart_survives_the_way_to_the_url_and_is_never_shown(password):
    secret = CANARY + password
    if any(letter in secret for letter in "\u2028\u2029"):
        return
    secret = secret.encode(errors="ignore").decode()
    address = parse_address("rtsp://cam:554/live").with_credentials("ad@min", secret)
    again = parse_address(address.url)
    assert (again.username, again.password, again.host, again.location) == ("ad@min", secret, "cam", "/live")
    for shown in (repr(address), str(address), address.redacted, repr(again), again.redacted, redact(address.url)):
        assert CANARY not in shown
        assert "min" not in shown


@given(st.text(alphabet="ab1@/:%#?&=[].- \\\"'", max_size=24))
def test_raw_passwords_are_never_shown_whether_or_not_the_address_is_allowed(noise):
    url = f"rtsp://user:{CANARY}{noise}{CANARY}@cam.example:554/live"
    try:
        shown = parse_address(url).redacted
    except UrlError as error:
        shown = str(error)
    assert CANARY not in shown
    assert CANARY not in redact(url)


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://cam/live?user=admin&password={CANARY}&channel=1",
        f"rtsp://cam/user=admin&password={CANARY}&channel=1&stream=0.sdp",
        f"rtsp://cam/live?token={CANARY}",
        f"rtsp://cam/live?{CANARY}",
        f"rtsp://cam/live?channel=1&anything={CANARY}",
        f"rtsp://cam/live?pwd={CANARY}#{CANARY}",
        f"rtsp://cam/user=admin_password={CANARY}_channel=1.sdp",
    ],
)
def test_secrets_of_queries_and_paths_are_not_shown(url):
    address = parse_address(url)
    assert CANARY not in address.redacted + repr(address)
    assert CANARY in address.url, "the camera must still get it"
    assert CANARY not in redact(url)


def test_harmless_keys_stay_readable():
    assert (
        parse_address("rtsp://u:p@cam/live?channel=1&subtype=0").redacted == "rtsp://***@cam/live?channel=1&subtype=0"
    )


def test_credentials_set_apart_win_over_those_in_the_url():
    address = parse_address("rtsp://old:older@cam/a").with_credentials("new", "p w")
    assert address.url == f"rtsp://new:{quote('p w')}@cam/a"
    assert parse_address("rtsp://u:old@cam/a").with_credentials(None, "new").url == "rtsp://u:new@cam/a"


def test_a_password_without_a_user_is_refused():
    with pytest.raises(UrlError, match="username"):
        parse_address("rtsp://cam/a").with_credentials(None, CANARY)


def test_a_line_break_in_credentials_cannot_reach_the_request():
    for url in ("rtsp://u%0d%0aX-Evil:p@cam/a", "rtsp://u:p%0aX@cam/a", "rtsp://u:p%00@cam/a"):
        with pytest.raises(UrlError, match="control character"):
            parse_address(url)
    with pytest.raises(UrlError, match="control character"):
        parse_address("rtsp://cam/a").with_credentials("u", "p\r\nX: y")


def test_addresses_are_plain_data():
    address = parse_address("rtsp://u:p@cam:554/a?channel=1")
    assert pickle.loads(pickle.dumps(address)) == address


def test_an_unknown_sample_is_refused_and_names_what_exists():
    for name in ("nothing-like-it.mp4", "../pyproject.toml", "", ".."):
        with pytest.raises(UrlError, match="Bundled:"):
            find_sample(name)
        with pytest.raises(UrlError, match="Bundled:"):
            parse_address(f"sample:{name}")


def test_a_model_is_a_path_or_a_sample():
    assert str(find_model("models/a.onnx")) == "models/a.onnx"
    with pytest.raises(UrlError, match="Bundled:"):
        find_model("sample:nothing-like-it.onnx")


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp:/admin:{CANARY}@10.0.0.5/live",
        f"http://admin:{CANARY}@host:1/x.onnx",
        f"http://admin:a/{CANARY}@host/x.onnx",
        f"rtsp:/10.0.0.5/live?password={CANARY}",
    ],
)
def test_messages_hide_what_urls_in_them_hold(url: str) -> None:
    shown = redact_in(f"model '{url}': cannot be read")
    assert CANARY not in shown and "admin" not in shown
    assert shown.startswith("model '") and shown.endswith("cannot be read")


def test_messages_keep_what_holds_nothing() -> None:
    for message in (
        "allowed: zmq:tcp://HOST:PORT, zmq:ipc://PATH",
        "see https://ui.perfetto.dev/",
        "/a@b/c: no such file",
    ):
        assert redact_in(message) == message
