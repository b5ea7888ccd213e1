"""RTSP cameras that work and cameras that fail, over real sockets."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import traceback

import pytest

from pipeline.errors import Cause, SourceError
from pipeline.source.address import parse_address
from pipeline.source.resolve import check_host
from pipeline.source.rtsp import RtspSource
from pipeline.source.source import SourceOptions
from tests.helpers.numbered_clip import NumberedClip, read_number
from tests.source.conftest import FPS
from tests.source.playing import opened, play

TRANSPORTS = ("tcp", "udp")
CANARY = "c4n4ry"
PASSWORD = f"{CANARY}@/:%41#?&=+\"' ü{CANARY}"
FAST = {"open_timeout_seconds": 2.0, "read_timeout_seconds": 0.5}


def numbers(seen):
    return [read_number(picture.planes[0]) for picture in seen.pictures]


def in_the_background(action, *arguments, after_seconds=0.6):
    timer = threading.Timer(after_seconds, action, arguments)
    timer.daemon = True
    timer.start()
    return timer


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_every_picture_of_a_camera_arrives_and_the_end_is_said(server, clips, transport, b_frames):
    clip = NumberedClip.make(clips, fps=FPS, frames=50, b_frames=b_frames)
    camera = server.add_camera("cam", clip, frames=100)
    seen = play(camera.url, transport=transport, **FAST)
    assert seen.info is not None
    assert (seen.info.live, seen.info.size, seen.info.codec, seen.info.decoder) == (True, (320, 192), "h264", "pyav")
    assert seen.error is not None and seen.error.cause is Cause.ENDED
    # What the decoder holds back is drained by whoever plays; here the error comes first.
    assert numbers(seen) == [*range(50), *range(50)][: len(seen.pictures)]
    assert len(seen.packets) >= 99 and len(seen.pictures) >= 96


@pytest.mark.parametrize("scheme", ["digest", "basic"])
@pytest.mark.parametrize("apart", [False, True], ids=["in the URL", "set apart"])
def test_the_password_opens_the_camera_whatever_it_holds(server, clip, scheme, apart):
    camera = server.add_camera("cam", clip, user="ad@min", password=PASSWORD, auth=scheme)
    plain = f"rtsp://127.0.0.1:{server.port}/cam"
    if apart:
        seen = play(plain, username="ad@min", password=PASSWORD, most_packets=3, **FAST)
    else:
        seen = play(parse_address(plain).with_credentials("ad@min", PASSWORD).url, most_packets=3, **FAST)
    assert seen.error is None
    assert len(seen.packets) == 3
    assert camera.counts()["playing"] == 0 or camera.wait_for_count("sessions_opened", 1)


@pytest.mark.parametrize("password", [None, "", f"{CANARY}wrong"])
def test_a_wrong_password_is_tried_once(server, clip, password):
    camera = server.add_camera("cam", clip, user="admin", password=PASSWORD)
    before = camera.counts()
    seen = play(f"rtsp://127.0.0.1:{server.port}/cam", username="admin", password=password, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.UNAUTHORISED
    assert "username and password" in str(seen.error)
    assert camera.counts()["authorised_requests"] - before["authorised_requests"] <= 1


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (400, Cause.FAILED),
        (401, Cause.UNAUTHORISED),
        (403, Cause.UNAUTHORISED),
        (404, Cause.NOT_FOUND),
        (453, Cause.BUSY),
        (500, Cause.BUSY),
        (503, Cause.BUSY),
    ],
)
@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY"])
def test_statuses_become_causes(server, clip, code, cause, method):
    camera = server.add_camera("cam", clip)
    camera.status(code, (method,))
    seen = play(camera.url, **FAST)
    assert seen.error is not None and seen.error.cause is cause


def test_a_path_that_is_not_there_is_not_found(server, clip):
    server.add_camera("cam", clip)
    seen = play(f"rtsp://127.0.0.1:{server.port}/other", **FAST)
    assert seen.error is not None and seen.error.cause is Cause.NOT_FOUND


def test_a_port_that_refuses_is_refused_at_once(server, clip):
    camera = server.add_camera("cam", clip)
    server.refuse()
    started = time.monotonic()
    seen = play(camera.url, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.REFUSED
    assert time.monotonic() - started < 1


def test_a_camera_that_never_answers_is_unreachable_within_the_open_timeout(server, clip):
    camera = server.add_camera("cam", clip)
    camera.silence()
    started = time.monotonic()
    seen = play(camera.url, open_timeout_seconds=1.0)
    assert seen.error is not None and seen.error.cause is Cause.UNREACHABLE
    assert 0.8 < time.monotonic() - started < 2.0


def test_a_host_that_swallows_packets_is_unreachable_within_the_open_timeout():
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # a full backlog drops the next SYN, as a dead host would
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        time.sleep(0.1)
        started = time.monotonic()
        seen = play(f"rtsp://127.0.0.1:{full.getsockname()[1]}/cam", open_timeout_seconds=1.0)
        assert seen.error is not None and seen.error.cause is Cause.UNREACHABLE
        assert time.monotonic() - started < 2.5


def test_a_server_that_speaks_something_else_has_failed(server):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def serve():
            with contextlib.suppress(OSError):
                client, _ = other.accept()
                client.recv(1000)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                client.close()

        threading.Thread(target=serve, daemon=True).start()
        seen = play(f"rtsp://127.0.0.1:{other.getsockname()[1]}/cam", **FAST)
    assert seen.error is not None and seen.error.cause in (Cause.FAILED, Cause.ENDED)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_a_camera_that_falls_silent_is_stalled_after_the_read_timeout(server, clip, transport, fault):
    camera = server.add_camera("cam", clip)
    in_the_background(getattr(camera, fault))
    seen = play(camera.url, transport=transport, **FAST)
    noticed = time.monotonic()
    assert seen.error is not None and seen.error.cause is Cause.STALLED
    assert seen.packets
    assert 0.4 < noticed - seen.packets[-1].received_at < 1.5


@pytest.mark.parametrize("how", ["bye", "close"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_farewell_in_mid_stream_is_an_end(server, clip, transport, how):
    camera = server.add_camera("cam", clip)
    in_the_background(camera.end, how)
    seen = play(camera.url, transport=transport, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.ENDED


def test_a_cut_connection_is_an_end_and_the_next_one_plays(server, clip):
    camera = server.add_camera("cam", clip)
    in_the_background(camera.cut)
    seen = play(camera.url, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.ENDED
    assert len(play(camera.url, most_packets=5, **FAST).packets) == 5


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_new_resolution_is_seen_on_the_very_picture(server, clip, clips, transport):
    larger = NumberedClip.make(clips, width=480, height=272, fps=FPS, frames=30)
    camera = server.add_camera("cam", clip, frames=150)
    in_the_background(camera.change_resolution, larger)
    seen = play(camera.url, transport=transport, **FAST)
    assert list(dict.fromkeys(seen.sizes)) == [(320, 192), (480, 272)]
    assert numbers(seen)[seen.sizes.index((480, 272))] == 0
    assert None not in numbers(seen)


def test_damaged_pictures_are_marked_or_counted_and_the_stream_goes_on(server, clip):
    camera = server.add_camera("cam", clip, frames=150)
    camera.corrupt(7)
    seen = play(camera.url, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.ENDED
    assert len(seen.pictures) + seen.corrupt >= 140
    assert seen.corrupt + sum(picture.damaged for picture in seen.pictures) > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_lost_packets_do_not_end_the_stream(server, clip, transport):
    camera = server.add_camera("cam", clip, frames=150)
    camera.lose(20)
    seen = play(camera.url, transport=transport, **FAST)
    assert seen.error is not None and seen.error.cause is Cause.ENDED
    assert len(seen.pictures) > 75


def test_stopping_ends_reading(server, clip):
    camera = server.add_camera("cam", clip)
    stopping = threading.Event()
    in_the_background(stopping.set)
    seen = play(camera.url, stopping=stopping, **FAST)
    assert seen.error is None and seen.packets


def test_closing_says_goodbye_so_that_no_session_is_left_behind(server, clip):
    camera = server.add_camera("cam", clip)
    for _ in range(5):
        assert play(camera.url, most_packets=2, **FAST).error is None
    until = time.monotonic() + 3
    while camera.counts()["playing"] and time.monotonic() < until:
        time.sleep(0.02)
    assert camera.counts()["playing"] == 0


def test_reconnecting_leaves_no_thread_and_no_file_behind(server, clip):
    from pathlib import Path

    camera = server.add_camera("cam", clip)
    play(camera.url.replace("127.0.0.1", "localhost"), most_packets=1, **FAST)
    time.sleep(0.3)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        play(camera.url.replace("127.0.0.1", "localhost"), most_packets=1, **FAST)
    until = time.monotonic() + 3
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 1


def test_a_host_without_address_is_unreachable():
    seen = play("rtsp://no-such-host.invalid/cam", **FAST)
    assert seen.error is not None and seen.error.cause is Cause.UNREACHABLE
    assert "no-such-host.invalid" in str(seen.error)


def never_answers(*_):
    time.sleep(3)
    return []


def test_a_resolver_that_never_answers_is_given_up_at_the_deadline(monkeypatch):
    # The name server itself cannot be made to hang here without rights on the machine.
    monkeypatch.setattr(socket, "getaddrinfo", never_answers)
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        check_host("camera.example", "rtsp://camera.example/a", 0.3, threading.Event())
    assert caught.value.cause is Cause.UNREACHABLE
    assert time.monotonic() - started < 1.0


def test_stopping_ends_a_look_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", never_answers)
    stopping = threading.Event()
    stopping.set()
    started = time.monotonic()
    with pytest.raises(SourceError):
        check_host("camera.example", "rtsp://camera.example/a", 30, stopping)
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("fault", ["none", "unauthorised", "not_found", "silence", "refuse", "stall", "cut", "tls"])
def test_the_password_is_in_no_message_traceback_log_or_repr(server, clip, fault, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    camera = server.add_camera("cam", clip, user="admin", password=PASSWORD)
    url = parse_address(f"rtsp://127.0.0.1:{server.port}/cam?token={CANARY}").with_credentials("admin", PASSWORD).url
    if fault in ("unauthorised", "not_found", "silence", "refuse"):
        getattr(server if fault == "refuse" else camera, fault)()
    elif fault in ("stall", "cut"):
        in_the_background(getattr(camera, fault), after_seconds=0.3)
    if fault == "tls":
        url = url.replace("rtsp:", "rtsps:")
    source = opened(url, open_timeout_seconds=1.0, read_timeout_seconds=0.4)
    texts = [repr(source)]
    try:
        info = source.open()
        texts.append(repr(info))
        texts.extend(repr(source.read()) for _ in range(30 if fault == "none" else 1000))
    except SourceError as error:
        texts.append(str(error) + repr(error) + repr(error.args))
        texts += traceback.format_exception(error)
        texts += traceback.TracebackException.from_exception(error, capture_locals=False).format()
        assert error.__cause__ is None and error.__context__ is None
    finally:
        source.close()
    output = capfd.readouterr()
    for text in (*texts, output.out, output.err, caplog.text):
        assert CANARY not in text


def test_a_redirect_to_a_file_or_another_protocol_is_not_followed(tmp_path):
    """To another RTSP host FFmpeg does follow, which nothing in its options forbids: see RtspSource."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    for target in (f"file://{secret}", "http://127.0.0.1:1/", "concat:/etc/passwd"):
        with redirecting_to(target) as port:
            source = RtspSource(parse_address(f"rtsp://127.0.0.1:{port}/a"), SourceOptions(**FAST), threading.Event())
            with pytest.raises(SourceError):
                source.open()
            source.close()


@contextlib.contextmanager
def redirecting_to(target):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve():
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                while request := client.recv(4000).decode():
                    sequence = next(line for line in request.split("\r\n") if line.startswith("CSeq"))
                    client.sendall(f"RTSP/1.0 302 Moved\r\n{sequence}\r\nLocation: {target}\r\n\r\n".encode())

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
