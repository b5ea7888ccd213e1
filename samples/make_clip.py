"""Renders the bundled clip ``street.mp4`` and its truth ``street_truth.json``.

    python samples/make_clip.py

Twenty seconds of one street corner, from afternoon to dusk. Its street, traffic and camera are written out below; the
detector is trained on random ones (``scene/training.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from scene import CLASS_NAMES, world  # noqa: E402
from scene.drawing import Camera, Light  # noqa: E402
from scene.props import Prop  # noqa: E402
from scene.street import StreetPlan  # noqa: E402
from scene.world import Actor, Scene, Truth  # noqa: E402

FPS = 25
FRAMES = 500
UP_STREET, DOWN_STREET = np.pi / 2, -np.pi / 2
CROSSING_M = 17.0

STREET = StreetPlan(
    lanes=1,
    bike_lane_m=1.7,
    parking=(False, True),
    pavement_m=4.2,
    crossings_m=(CROSSING_M,),
    end_m=50.0,
    asphalt=(108.0, 107.0, 106.0),
    slabs=(176.0, 168.0, 156.0),
    bike_lane=(136.0, 76.0, 66.0),
    seed=424242,
).with_buildings(np.random.default_rng(91))
CAMERA = Camera(position=(-6.4, 0.0, 6.2), yaw=np.radians(21), pitch=np.arctan((180 - 36) / 580), focal_px=580.0)
SUN = (0.52, -0.45, 0.726)


TURN_M = 2.5
"""How far before and after a corner a turn begins and ends."""


@dataclass
class Mover:
    """An actor on a straight way, or one with a corner."""

    kind: str
    start: tuple[float, float]
    """x, y in metres when the clip begins or when it sets off."""
    heading: float
    speed: float
    """Metres a second."""
    seed: int
    sets_off_s: float = 0.0
    """Waits at its start until then."""
    turn: tuple[float, float] | None = None
    """After how many metres it takes which new heading."""
    travelled_m: float = 0.0
    now_speed: float = field(default=-1.0)

    def _point(self, travelled_m: float) -> np.ndarray:
        """x, y on the way with a sharp corner."""
        straight = travelled_m if self.turn is None else min(travelled_m, self.turn[0])
        point = np.array(self.start) + straight * np.array([np.cos(self.heading), np.sin(self.heading)])
        if self.turn is not None:
            point += (travelled_m - straight) * np.array([np.cos(self.turn[1]), np.sin(self.turn[1])])
        return point

    @property
    def turned(self) -> float:
        """How much of its turn is behind it, 0-1."""
        if self.turn is None:
            return 0.0
        return float(np.clip((self.travelled_m - self.turn[0]) / (2 * TURN_M) + 0.5, 0, 1))

    @property
    def place(self) -> tuple[float, float]:
        """x, y now; corners are rounded."""
        point, share = self._point(self.travelled_m), self.turned
        if self.turn is not None and 0 < share < 1:
            before, corner, after = (self._point(self.turn[0] + offset) for offset in (-TURN_M, 0.0, TURN_M))
            point = (1 - share) ** 2 * before + 2 * share * (1 - share) * corner + share**2 * after
        return (float(point[0]), float(point[1]))

    @property
    def now_heading(self) -> float:
        if self.turn is None:
            return self.heading
        change = (self.turn[1] - self.heading + np.pi) % (2 * np.pi) - np.pi
        return float(self.heading + self.turned * change)


def cast() -> list[Mover]:
    """Everything that is to be detected, parked or moving."""
    movers = [*_parked(), *_drivers(), *_cyclists(), *_walkers()]
    for mover in movers:
        mover.now_speed = mover.speed
    return movers


def _parked() -> list[Mover]:
    left, right, parked_x = -STREET.kerb_m(-1), STREET.kerb_m(1), STREET.parking_x(1)
    return [
        Mover("car", (parked_x, 24.5), UP_STREET, 0.0, 500),
        Mover("car", (parked_x, 30.8), UP_STREET, 0.0, 501),
        Mover("truck", (parked_x, 38.0), UP_STREET, 0.0, 514),
        Mover("bicycle", (left - 3.0, 17.0), 0.15, 0.0, 520),
        Mover("bicycle", (left - 3.0, 19.6), 0.25, 0.0, 521),
        Mover("bicycle", (right + 2.6, 16.4), 0.1, 0.0, 524),
    ]


def _drivers() -> list[Mover]:
    up, down = STREET.lane_x(1, 0), STREET.lane_x(-1, 0)
    near_end, far_end = STREET.end_m - 7.0, STREET.end_m - 4.0

    def leaving(kind: str, y: float, speed: float, seed: int) -> Mover:
        return Mover(kind, (up, y), UP_STREET, speed, seed, turn=(near_end - y, 0.0))

    def coming(kind: str, x: float, speed: float, seed: int) -> Mover:
        return Mover(kind, (x, far_end), np.pi, speed, seed, turn=(x - down, DOWN_STREET))

    return [
        leaving("car", 11.0, 8.5, 601),
        leaving("truck", -3.0, 7.2, 602),
        leaving("car", -16.0, 8.2, 603),
        leaving("car", -38.0, 8.0, 605),
        leaving("truck", -60.0, 7.0, 608),
        Mover("truck", (down, 27.0), DOWN_STREET, 6.5, 611),
        Mover("car", (down, 38.0), DOWN_STREET, 7.0, 612),
        coming("car", 20.0, 6.5, 613),
        coming("car", 62.0, 6.4, 615),
        coming("truck", 84.0, 6.2, 616),
        Mover("car", (-34.0, near_end), 0.0, 7.0, 661),
        Mover("car", (-110.0, near_end), 0.0, 6.8, 663),
    ]


def _cyclists() -> list[Mover]:
    up, down, cross = STREET.bike_x(1), STREET.bike_x(-1), STREET.end_m - 3.2
    return [
        Mover("cyclist", (up, 9.0), UP_STREET, 4.2, 621, turn=(30.0, 0.0)),
        Mover("cyclist", (up - 0.2, -14.0), UP_STREET, 4.8, 622),
        Mover("cyclist", (up + 0.1, -42.0), UP_STREET, 4.6, 623),
        Mover("cyclist", (down, 31.0), DOWN_STREET, 3.9, 624),
        Mover("cyclist", (20.0, cross), np.pi, 4.2, 625, turn=(20.0 - down, DOWN_STREET)),
        Mover("cyclist", (44.0, cross), np.pi, 4.3, 626, turn=(44.0 - down, DOWN_STREET)),
    ]


def _walkers() -> list[Mover]:
    left, right = -STREET.kerb_m(-1), STREET.kerb_m(1)
    return [
        # Over the crossing, then along the other pavement.
        Mover("person", (left - 0.5, CROSSING_M + 0.6), 0.0, 1.5, 631, 3.2, turn=(13.5, UP_STREET)),
        Mover("person", (left - 0.7, CROSSING_M - 0.7), 0.0, 1.45, 632, 3.4, turn=(14.6, DOWN_STREET)),
        Mover("person", (right + 0.5, CROSSING_M), np.pi, 1.55, 633, 3.6, turn=(14.2, UP_STREET)),
        Mover("person", (right + 0.6, CROSSING_M + 0.8), np.pi, 1.4, 634, 14.6, turn=(13.5, UP_STREET)),
        Mover("person", (left - 0.5, CROSSING_M - 0.4), 0.0, 1.5, 635, 14.9, turn=(13.5, UP_STREET)),
        # Along the pavements.
        Mover("person", (left - 1.4, 12.0), UP_STREET, 1.35, 641),
        Mover("person", (left - 2.3, 11.4), UP_STREET, 1.35, 642),
        Mover("person", (left - 1.8, 28.0), DOWN_STREET, 1.4, 643),
        Mover("person", (left - 2.6, 40.0), DOWN_STREET, 1.5, 644),
        Mover("person", (right + 1.6, 10.0), UP_STREET, 1.3, 651),
        Mover("person", (right + 2.0, 27.0), DOWN_STREET, 1.35, 652),
        Mover("person", (right + 2.9, 27.6), DOWN_STREET, 1.35, 653),
        Mover("person", (right + 1.9, 38.0), DOWN_STREET, 1.45, 654),
        Mover("person", (right + 3.3, 20.5), 3.0, 0.0, 656),
        Mover("person", (left - 3.5, 23.5), 0.4, 0.0, 657),
    ]


def street_furniture() -> list[Prop]:
    """What stands on the pavements."""
    left, right = -STREET.kerb_m(-1) - 0.6, STREET.kerb_m(1) + 0.6
    left_wall, right_wall = -STREET.facade_m(-1) + 0.5, STREET.facade_m(1) - 0.5
    return [
        *(Prop("lamp", left, y, 0.0, 7) for y in (22.0, 38.0)),
        *(Prop("lamp", right, y, np.pi, 7) for y in (13.5, 28.0)),
        Prop("tree", left, 29.0, 0.0, 41),
        Prop("tree", right, 20.8, 0.0, 42),
        Prop("tree", right, 35.0, 0.0, 43),
        Prop("sign", right, 15.2, -np.pi / 2, 44),
        Prop("sign", left, 25.0, -np.pi / 2, 45),
        Prop("bin", left_wall, 14.2, 0.0, 46),
        Prop("bin", right, 23.4, 0.0, 47),
        Prop("bench", left_wall, 27.0, 0.0, 48),
        Prop("planter", right_wall, 18.8, 0.0, 49),
        Prop("planter", left_wall, 32.0, 0.0, 50),
        Prop("cabinet", right_wall, 24.0, np.pi, 51),
        *(Prop("bollard", left + 0.25, 9.5 + 1.6 * i, 0.0, 3) for i in range(3)),
    ]


def _on_crossing(movers: list[Mover], seconds: float) -> bool:
    """Whether someone walks over the lanes or is about to."""
    edge = STREET.lane_x(1, 0) + 2.0
    return any(
        mover.kind == "person" and mover.turn is not None and seconds > mover.sets_off_s - 1.0
        and (abs(mover.place[0]) < edge or mover.travelled_m < 4.0)
        for mover in movers
    )  # fmt: skip


def _wanted_speed(mover: Mover, length_m: float, others: list[tuple[Mover, float]], crossing_taken: bool) -> float:
    """Slow down for whoever is ahead in the same lane and for people on the crossing."""
    if abs(np.sin(mover.now_heading)) < 0.5:
        return mover.speed
    ahead = float(np.sign(np.sin(mover.now_heading)))
    x, y = mover.place
    room = 99.0
    if crossing_taken:
        to_line = (CROSSING_M - y) * ahead - 2.6 - length_m / 2
        room = to_line if to_line > -0.6 else room
    for other, other_length in others:
        gap = (other.place[1] - y) * ahead - (length_m + other_length) / 2 - 1.6
        same_way = np.sin(other.now_heading) * ahead > 0.5 and abs(other.place[0] - x) < 1.2
        if other is not mover and same_way and gap > -3.0:
            room = min(room, gap)
    return float(min(mover.speed, np.sqrt(2 * 3.0 * max(room, 0.0))))


def play(frames: int) -> Iterator[list[Actor]]:
    """The actors of each frame."""
    movers = cast()
    actors = [
        Actor(mover.kind, *mover.start, mover.heading, mover.seed, first_object_id=2 * i, phase=float(i))
        for i, mover in enumerate(movers)
    ]
    for frame in range(frames):
        seconds = frame / FPS
        taken = _on_crossing(movers, seconds)
        riding = [(m, a.length_m) for m, a in zip(movers, actors, strict=True) if m.kind not in ("person", "bicycle")]
        for mover, actor in zip(movers, actors, strict=True):
            wanted = mover.speed if seconds >= mover.sets_off_s else 0.0
            if mover.kind in ("car", "truck", "cyclist") and mover.speed:
                wanted = _wanted_speed(mover, actor.length_m, riding, taken)
            step = 2.2 / FPS if wanted > mover.now_speed else 5.0 / FPS
            limit = step if mover.kind != "person" else 99.0
            mover.now_speed += float(np.clip(wanted - mover.now_speed, -limit, limit))
            moved = mover.now_speed / FPS
            mover.travelled_m += moved
            actor.x, actor.y = mover.place
            actor.heading = mover.now_heading
            actor.stride = min(1.0, mover.now_speed / 1.4) if mover.kind == "person" else 1.0
            actor.phase += moved * (2 * np.pi / 1.45 if mover.kind == "person" else 1.1)
        yield actors


def in_view(actors: list[Actor]) -> list[Actor]:
    """Those that the camera may see and that are not right below it."""
    depths = CAMERA.to_camera(np.array([[actor.x, actor.y, 0.8] for actor in actors]))[:, 2]
    return [actor for actor, depth in zip(actors, depths, strict=True) if depth > 2.5]


def hour(frame: int) -> float:
    """The light of a frame: 0 is day, 1 is late dusk."""
    return float(np.interp(frame / FRAMES, (0.0, 0.3, 0.85, 1.0), (0.08, 0.2, 0.8, 0.86)))


def render(frames: int) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Frames ``[H, W, 3]`` RGB and their truth."""
    rng = np.random.default_rng(77)
    sun = tuple(float(v) for v in np.asarray(SUN) / np.linalg.norm(SUN))
    scene = Scene(STREET, CAMERA, Light(sun, hour(0)), street_furniture())
    for frame, actors in enumerate(play(frames)):
        yield scene.render(in_view(actors), Light(sun, hour(frame)), rng)


def describe(truth: list[Truth]) -> list[dict[str, Any]]:
    """A frame's objects for the truth file."""
    return [
        {
            "object_id": entry.object_id,
            "class_id": entry.class_id,
            "xyxy": list(entry.xyxy),
            "full_xyxy": list(entry.full_xyxy),
            "visible": round(entry.visible, 3),
            "ignore": entry.ignore,
        }
        for entry in truth
    ]


def make(clip: Path, truth_file: Path, frames: int, crf: int) -> None:
    """Render, encode and write the truth."""
    described = []
    with av.open(str(clip), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = CAMERA.width, CAMERA.height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.options = {
            "preset": "veryslow", "crf": str(crf), "g": str(2 * FPS), "keyint_min": str(2 * FPS), "sc_threshold": "0",
            "bf": "2", "threads": "1",
        }  # fmt: skip
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        for index, (image, truth) in enumerate(render(frames)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            frame.pts = index
            container.mux(stream.encode(frame))
            described.append({"frame": index, "objects": describe(truth)})
        container.mux(stream.encode(None))
    rule = {
        "visible_below": world.MIN_VISIBLE_FRACTION,
        "long_side_px_below": world.MIN_LONG_SIDE_PX,
        "short_side_px_below": world.MIN_SHORT_SIDE_PX,
    }
    head = {"width": CAMERA.width, "height": CAMERA.height, "fps": FPS, "classes": CLASS_NAMES, "ignored_if_any": rule}
    lines = ",\n".join(json.dumps(frame, separators=(",", ":")) for frame in described)
    truth_file.write_text(json.dumps(head)[:-1] + ', "frames": [\n' + lines + "\n]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "street.mp4")
    parser.add_argument("--truth", type=Path, default=HERE / "street_truth.json")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--crf", type=int, default=20, help="x264 quality: lower is better and larger")
    options = parser.parse_args()
    make(options.out, options.truth, options.frames, options.crf)


if __name__ == "__main__":
    main()
