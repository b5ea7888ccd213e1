"""Hostile addresses and hostile files: refused, and nothing else is opened or connected to."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pytest

from pipeline.errors import Cause, SourceError, UrlError
from pipeline.source.address import parse_address
from pipeline.source.source import SourceOptions, open_source
from tests.helpers.test_data import test_data

CANARY = "c4n4ry"

HOSTILE = [
    "",
    "   ",
    "-",
    " clip.mp4",
    "clip.mp4\n",
    "clip\x00.mp4",
    "rtsp://cam/a\r\nX-Evil: 1",
    "http://cam/stream.m3u8",
    "https://cam/clip.mp4",
    "HTTP://169.254.169.254/latest/meta-data/",
    "httpproxy://cam/",
    "ftp://cam/clip.mp4",
    "sftp://cam/clip.mp4",
    "gopher://cam/1",
    "smb://cam/share/clip.mp4",
    "rtmp://cam/live",
    "rtmps://cam/live",
    "rtp://239.0.0.1:5004",
    "srtp://239.0.0.1:5004",
    "udp://0.0.0.0:1234",
    "tcp://cam:22",
    "tls://cam:443",
    "unix:/run/docker.sock",
    "srt://cam:9000",
    "mmsh://cam/x",
    "ipfs://x",
    "amqp://guest@cam/",
    "zmq:tcp://127.0.0.1:5555",
    "data:video/mp4;base64,AAAA",
    "data://text/plain,x",
    "concat:/etc/passwd|/etc/group",
    "concatf:/tmp/list.txt",
    "subfile,,start,0,end,9,,:/etc/passwd",
    "crypto:/etc/passwd",
    "crypto+file:/etc/passwd",
    "cache:http://cam/x",
    "async:http://cam/x",
    "pipe:0",
    "pipe:",
    "fd:0",
    "md5:",
    "tee:a|b",
    "hls+http://cam/x.m3u8",
    "hls://cam/x",
    "dash://cam/x",
    "lavfi:testsrc",
    "x11grab:0.0",
    "javascript:alert(1)",
    "C:\\clip.mp4",
    "file://cam/etc/passwd",
    "file://cam",
    "file:",
    "file:-",
    "file:///tmp/a%00b.mp4",
    "playlist.m3u8",
    "/srv/list.ffconcat",
    "file:stream.sdp",
    "manifest.MPD",
    "notes.txt",
    "images:",
    "images:http://cam/*.jpg",
    "images:shots#fps=0",
    "images:shots#fps=nan",
    "camera:",
    "camera:/etc/passwd",
    "camera:/dev/../etc/passwd",
    "camera:0?size=1x1",
    "camera:0?format=../../x",
    "camera:0?unknown=1",
    "pattern:x",
    "pattern:?size=99999x99999",
    "pattern:?fps=0",
    "pattern:?frames=-1",
    "pattern:?fps=25&fps=30",
    "pattern:?size=640x360&exec=1",
    "rtsp:",
    "rtsp:cam/a",
    "rtsp://",
    "rtsp:///etc/passwd",
    "rtsp://cam:0/a",
    "rtsp://cam:70000/a",
    "rtsp://cam:/a",
    "rtsp://cam:port/a",
    "rtsp://cam/a b",
    "rtsp://-cam/a",
    "rtsp://ca m/a",
    "rtsp://2130706433/a",
    "rtsp://127.1.1/a",
    "rtsp://[::1/a",
    "rtsp://[file]/a",
    "rtsp://169.254.169.254/latest/meta-data/",
    "rtsp://[fd00:ec2::254]/x",
    "rtsp://[::ffff:169.254.169.254]/x",
    f"rtsp://u:{CANARY}@file:/etc/passwd",
    f"rtsp://u:{CANARY}@file:///etc/passwd",
    f"rtsp://u:{CANARY}@",
    f"rtsp://u:{CANARY}",
    f"http://u:{CANARY}@cam/a",
    f"rtspu://u:{CANARY}@cam/a?password={CANARY}",
    f"concat:rtsp://u:{CANARY}@cam/a|file.mp4",
    f"u:{CANARY}@cam/a",
    f"https://cam/a?token={CANARY}",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_with_words_that_help_and_hide(url):
    with pytest.raises(UrlError) as caught:
        open_source(url, SourceOptions(), threading.Event()).open()
    message = str(caught.value)
    assert CANARY not in message
    assert "\n" not in message and "\x00" not in message and "\r" not in message
    assert ": " in message and message.endswith((".", ")"))
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_there_are_at_least_forty_of_them():
    assert len(set(HOSTILE)) >= 40


def test_a_refusal_names_what_is_allowed():
    with pytest.raises(UrlError, match=r"rtsp://.*file.*images:.*camera:.*pattern:.*sample:"):
        parse_address("http://cam/stream")


@pytest.fixture
def canary_listener():
    """A port that notes whether anybody came."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.2)
        yield listening


def visited(listening: socket.socket) -> bool:
    try:
        listening.accept()[0].close()
    except TimeoutError:
        return False
    return True


def opening_fails(path: Path) -> SourceError:
    source = open_source(f"file:{path}", SourceOptions(), threading.Event())
    try:
        with pytest.raises(SourceError) as caught:
            source.open()
    finally:
        source.close()
    return caught.value


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv", ".avi", "", ".h264"])
def test_a_playlist_under_another_name_opens_nothing_else(tmp_path, canary_listener, suffix):
    video = shutil.copy(test_data() / "videos/asl_walk.mkv", tmp_path / "real.mkv")
    host = f"127.0.0.1:{canary_listener.getsockname()[1]}"
    playlists = [
        f"ffconcat version 1.0\nfile '{video}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{host}/a.ts\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nconcat:{video}|/etc/passwd\n#EXT-X-ENDLIST\n",
        f"v=0\no=- 0 0 IN IP4 {host}\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://{host}/</BaseURL></MPD>',
        f"<ASX VERSION='3.0'><ENTRY><REF HREF='http://{host}/'/></ENTRY></ASX>",
        f"[Reference]\nRef1=http://{host}/\n",
    ]
    for number, text in enumerate(playlists):
        path = tmp_path / f"list{number}{suffix}"
        path.write_text(text)
        assert opening_fails(path).cause is Cause.UNSUPPORTED
    assert not visited(canary_listener)


def test_a_name_that_looks_like_a_protocol_is_only_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(test_data() / "videos/asl_walk.mkv", tmp_path / "concat:a|b.mkv")
    source = open_source("file:concat:a|b.mkv", SourceOptions(), threading.Event())
    assert source.open().codec == "h264"
    source.close()
    assert opening_fails(Path("concat:/etc/passwd")).cause is Cause.NOT_FOUND


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.mp4")
    assert opening_fails(tmp_path / "pipe.mp4").cause is Cause.UNSUPPORTED
    assert opening_fails(Path("/dev/zero")).cause is Cause.UNSUPPORTED
    assert opening_fails(tmp_path).cause is Cause.UNSUPPORTED
