"""Count people who cross a line, from messages alone: python count_people.py --line x1,y1,x2,y2 [ENDPOINT].

Onpace must track (``track: {tracker: bytetrack}``). Stand at x1,y1 and look to x2,y2: "in" is from left to right.
Coordinates are pixels of the picture, or shares of its width and height where all four are at most 1.
"""

import argparse
import math
from dataclasses import dataclass

import msgspec
import zmq

BAND = 0.25  # of a person's height: so far from the line a side is sure, and nobody is counted for swaying on it
MEMORY_SECONDS = 3.0  # a track that broke off so lately may go on under another id
REACH = 0.75  # of a person's height: how near to where the old one ended the new one must begin


@dataclass
class Track:
    """What is known of one identity."""

    feet: tuple[float, float]
    height: float
    seconds: float  # when it was seen last
    side: int = 0  # the last sure side: -1 left, 1 right, 0 not sure yet
    sure_at: tuple[float, float] = (0.0, 0.0)  # where that was


class LineCounter:
    """Counts the crossings of one stream."""

    def __init__(self, line):
        self.line = line  # pixels
        self.counts = {"in": 0, "out": 0}
        self.tracks = {}

    def update(self, boxes, seconds):
        """Take in one frame: ``boxes`` is track id -> (left, top, right, bottom). Return [(track id, direction)]."""
        crossings = []
        self.tracks = {key: one for key, one in self.tracks.items() if seconds - one.seconds <= MEMORY_SECONDS}
        for key, (left, top, right, bottom) in boxes.items():
            feet, height = ((left + right) / 2, bottom), bottom - top
            track = self.tracks.get(key) or self._broken_off(feet, height, boxes) or Track(feet, height, seconds)
            self.tracks[key] = track
            track.feet, track.height, track.seconds = feet, height, seconds
            distance = self._distance(feet)
            if abs(distance) < BAND * height:
                continue
            side = 1 if distance > 0 else -1
            if side == -track.side and self._between_the_ends(track.sure_at, feet):
                direction = "in" if side > 0 else "out"
                self.counts[direction] += 1
                crossings.append((key, direction))
            track.side, track.sure_at = side, feet
        return crossings

    def _broken_off(self, feet, height, boxes):
        """Return, and forget, the track that a new one at ``feet`` goes on with."""
        near = {
            math.dist(feet, one.feet): key
            for key, one in self.tracks.items()
            if key not in boxes and math.dist(feet, one.feet) < REACH * height
        }
        return self.tracks.pop(near[min(near)]) if near else None

    def _distance(self, point):
        """Pixels from the line: positive to its right."""
        x1, y1, x2, y2 = self.line
        return ((x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)) / math.hypot(x2 - x1, y2 - y1)

    def _between_the_ends(self, start, end):
        x1, y1, x2, y2 = self.line
        share = self._distance(start) / (self._distance(start) - self._distance(end))
        x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2)
        return 0 <= along <= 1


def in_pixels(line, width, height):
    """Return ``line`` in pixels of a picture; shares of it become pixels."""
    return tuple(a * b for a, b in zip(line, (width, height) * 2, strict=True)) if max(line) <= 1 else line


def main():
    """Print every crossing, until all streams have ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint", nargs="?", default="tcp://127.0.0.1:5555")
    parser.add_argument("--line", required=True, type=lambda text: tuple(float(word) for word in text.split(",")))
    parser.add_argument("--class-name", help="count this class only, as the messages name it")
    options = parser.parse_args()
    if len(options.line) != 4 or options.line[:2] == options.line[2:]:
        parser.error("--line takes x1,y1,x2,y2, two different points")
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.MAXMSGSIZE, 8 * 1024 * 1024)
    socket.subscribe("detections/")
    socket.subscribe("status/")
    socket.connect(options.endpoint)
    counters, epochs, running = {}, {}, {}
    while not running or any(running.values()):
        payload = socket.recv_multipart()[1]
        message = (msgspec.json if payload[:1] == b"{" else msgspec.msgpack).decode(payload)
        stream = message["stream_id"]
        running[stream] = message.get("verdict") != "ended"
        if message["kind"] != "detections":
            continue
        line = in_pixels(options.line, message["frame_width"], message["frame_height"])
        counter = counters.setdefault(stream, LineCounter(line))
        if epochs.get(stream) != message["epoch"]:
            epochs[stream] = message["epoch"]
            counter.tracks.clear()  # a new connection: time and ids begin anew
        people = [one for one in message["objects"] if options.class_name in (None, one["class_name"])]
        boxes = {one["track_id"]: one["xyxy"] for one in people if one["track_id"] is not None}
        for key, direction in counter.update(boxes, message["pts_seconds"]):
            print(f"{stream} frame {message['frame_index']}: track {key} {direction}  {counter.counts}", flush=True)
    print("total", {stream: counter.counts for stream, counter in counters.items()})


if __name__ == "__main__":
    main()
