"""Count what each stream shows, and notice every lost message: python subscribe.py [ENDPOINT [MESSAGES]]."""

import sys
from collections import Counter, defaultdict

import msgspec
import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
messages_left = int(sys.argv[2]) if len(sys.argv) > 2 else -1

socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.MAXMSGSIZE, 8 * 1024 * 1024)
socket.subscribe("detections/")  # one stream: "detections/lobby", and check stream_id: topics match by prefix
socket.subscribe("status/")
socket.connect(endpoint)

seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
newest: dict[tuple[str, str], int] = {}  # (publisher, stream) -> sequence; a new publisher id is a restart

while messages_left != 0:
    _topic, payload = socket.recv_multipart()
    decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
    message = decode(payload)
    if message["schema_version"] != 1:
        sys.exit(f"schema version {message['schema_version']} is not 1")
    stream, sequence = message["stream_id"], message["sequence"]
    is_result = message["kind"] == "detections"

    known = newest.setdefault((message["publisher"], stream), sequence)
    if (lost := sequence - known - is_result) > 0:
        print(f"{stream}: lost {lost} messages after sequence {known}", flush=True)
    newest[message["publisher"], stream] = max(known, sequence)

    if is_result:
        seen[stream].update(one["class_name"] for one in message["objects"])
        messages_left -= 1
    if not is_result or messages_left == 0:
        print(stream, dict(sorted(seen[stream].items())), flush=True)
