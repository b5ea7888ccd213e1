# ruff: noqa: RUF005 - vectors are added here, not joined
"""Walking, standing and riding persons, and bicycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .drawing import Colour, Floats, Painter

_SKIN = ((241, 205, 178), (224, 178, 145), (198, 146, 110), (150, 103, 74), (104, 70, 50))
_HAIR = ((38, 30, 26), (84, 58, 38), (132, 94, 56), (196, 164, 104), (130, 128, 126), (24, 22, 24))
_CLOTHES = (
    (32, 36, 46), (58, 66, 84), (120, 30, 36), (182, 44, 40), (38, 84, 140), (64, 128, 186), (34, 92, 66),
    (214, 178, 60), (222, 216, 204), (146, 142, 138), (92, 72, 58), (168, 96, 140), (226, 120, 44), (90, 142, 120),
    (18, 20, 22), (238, 238, 240),
)  # fmt: skip
_TROUSERS = ((28, 32, 44), (42, 52, 78), (62, 72, 96), (70, 66, 62), (130, 116, 94), (22, 22, 24), (96, 96, 100))
_FRAMES = ((190, 30, 30), (24, 26, 30), (230, 230, 232), (30, 90, 170), (40, 130, 80), (220, 150, 30), (120, 124, 130))


@dataclass(frozen=True)
class PersonLook:
    """What a person wears and how tall they are."""

    height_m: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    coat: bool
    long_hair: bool
    bag: str
    """'none', 'backpack', 'handbag' or 'hat'."""
    bag_colour: Colour

    @classmethod
    def random(cls, rng: np.random.Generator) -> PersonLook:
        def pick(colours: tuple[Colour, ...]) -> Colour:
            return vary(colours[rng.integers(len(colours))], rng)

        child = rng.random() < 0.06
        return cls(
            height_m=rng.uniform(1.25, 1.45) if child else rng.uniform(1.56, 1.92),
            girth=rng.uniform(0.88, 1.2),
            skin=pick(_SKIN),
            hair=pick(_HAIR),
            top=pick(_CLOTHES),
            legs=pick(_TROUSERS if rng.random() < 0.8 else _CLOTHES),
            shoes=pick(((24, 24, 26), (70, 50, 38), (228, 228, 230))),
            coat=bool(rng.random() < 0.3),
            long_hair=bool(rng.random() < 0.4),
            bag=("none", "backpack", "handbag", "hat")[rng.choice(4, p=[0.45, 0.25, 0.2, 0.1])],
            bag_colour=pick(_CLOTHES),
        )


def vary(colour: Colour, rng: np.random.Generator) -> Colour:
    """The colour with a little chance in it."""
    shift = rng.uniform(-12, 12, 3) + rng.uniform(-10, 10)
    red, green, blue = np.clip(np.asarray(colour) + shift, 8, 246)
    return (float(red), float(green), float(blue))


def paint_person(painter: Painter, look: PersonLook, phase: float, stride: float, slot: int = 0) -> None:
    """A person on foot; ``phase`` is the walk cycle in radians, ``stride`` 0 stands and 1 walks briskly."""
    h, g = look.height_m, look.girth
    hip_z = 0.51 * h - 0.012 * h * abs(np.sin(phase)) * stride
    shoulder_z = 0.82 * h
    right_is_near = painter.eye[1] < 0
    for side in (1, -1) if right_is_near else (-1, 1):  # y is left: the far side first
        _paint_leg(painter, look, phase + (0 if side > 0 else np.pi), stride, side * 0.055 * h * g, hip_z, slot)
        if side == (1 if right_is_near else -1):
            _paint_arm(painter, look, phase + (np.pi if side > 0 else 0), stride, side * 0.125 * h * g, slot)
    lean = 0.03 * stride * h
    if look.bag == "backpack" and painter.eye[0] > 0:
        _paint_backpack(painter, look, lean, slot)
    torso = [[0, s * 0.055 * h * g, hip_z] for s in (1, -1)] + [[lean, s * 0.095 * h * g, shoulder_z] for s in (1, -1)]
    painter.hull(np.array(torso), [0.062 * h * g] * 2 + [0.046 * h * g] * 2, look.top, slot)
    if look.coat:
        hem = [[0, s * 0.07 * h * g, 0.34 * h] for s in (1, -1)]
        painter.hull(np.array(torso[:2] + hem), [0.064 * h * g] * 2 + [0.05 * h * g] * 2, look.top, slot)
    if look.bag == "backpack" and painter.eye[0] <= 0:
        _paint_backpack(painter, look, lean, slot)
    near = -1 if right_is_near else 1
    _paint_arm(painter, look, phase + (np.pi if near > 0 else 0), stride, near * 0.125 * h * g, slot)
    if look.bag == "handbag":
        painter.hull(
            np.array([[0, near * 0.16 * h, 0.42 * h], [0, near * 0.16 * h, 0.49 * h]]),
            [0.05 * h, 0.035 * h],
            look.bag_colour,
            slot,
        )
    _paint_head(painter, look, np.array([lean * 1.4, 0, 0.925 * h]), slot)
    painter.shadow(np.array([[0, 0, 0], [0, 0, hip_z]]), 0.07 * h)
    painter.shadow(np.array([[0, 0, hip_z], [lean, 0, shoulder_z]]), 0.13 * h * g)
    painter.shadow(np.array([[lean, 0, shoulder_z], [lean, 0, h]]), 0.06 * h)


def _paint_backpack(painter: Painter, look: PersonLook, lean: float, slot: int) -> None:
    h = look.height_m
    points = np.array([[-0.1 * h, 0, 0.6 * h], [-0.1 * h + lean, 0, 0.76 * h]])
    painter.hull(points, [0.075 * h, 0.065 * h], look.bag_colour, slot)


def _paint_leg(
    painter: Painter, look: PersonLook, phase: float, stride: float, y: float, hip_z: float, slot: int
) -> None:
    h, g = look.height_m, look.girth
    thigh = 0.5 * stride * np.sin(phase)
    bend = stride * (0.12 + 0.75 * max(0.0, float(np.cos(phase)))) * (0.9 if np.sin(phase) < 0.6 else 0.5)
    hip = np.array([0, y, hip_z])
    knee = hip + 0.25 * h * np.array([np.sin(thigh), 0, -np.cos(thigh)])
    shin = thigh - bend
    ankle = knee + 0.235 * h * np.array([np.sin(shin), 0, -np.cos(shin)])
    ankle[2] = max(ankle[2], 0.03 * h)
    painter.hull(np.stack([hip, knee]), [0.052 * h * g, 0.036 * h * g], look.legs, slot)
    painter.hull(np.stack([knee, ankle]), [0.036 * h * g, 0.024 * h * g], look.legs, slot)
    toe = ankle + np.array([0.085 * h, 0, -0.012 * h])
    painter.hull(np.stack([ankle, toe]), [0.024 * h, 0.016 * h], look.shoes, slot)


def _paint_arm(painter: Painter, look: PersonLook, phase: float, stride: float, y: float, slot: int) -> None:
    h = look.height_m
    swing = 0.45 * stride * np.sin(phase)
    shoulder = np.array([0.02 * h * stride, y, 0.81 * h])
    elbow = shoulder + 0.17 * h * np.array([np.sin(swing), 0.05 * np.sign(y), -np.cos(swing)])
    fore = swing + 0.3 * stride + 0.08
    hand = elbow + 0.15 * h * np.array([np.sin(fore), -0.04 * np.sign(y), -np.cos(fore)])
    painter.hull(np.stack([shoulder, elbow]), [0.034 * h, 0.028 * h], darker(look.top), slot)
    painter.hull(np.stack([elbow, hand]), [0.027 * h, 0.02 * h], darker(look.top), slot)
    painter.hull(hand[None], [0.024 * h], look.skin, slot)


def _paint_head(painter: Painter, look: PersonLook, centre: Floats, slot: int) -> None:
    h = look.height_m
    facing_away = painter.eye[0] < 0
    neck = np.stack([centre - [0.01 * h, 0, 0.1 * h], centre])
    back = np.stack([centre + [-0.022 * h, 0, 0.018 * h], centre + [-0.03 * h, 0, -0.01 * h]])
    if look.long_hair:
        back[1] = centre + [-0.04 * h, 0, -0.085 * h]
    hair_radii = [0.06 * h, 0.045 * h if look.long_hair else 0.052 * h]
    painter.hull(neck, [0.028 * h, 0.03 * h], look.skin, slot)
    if not facing_away:
        painter.hull(back, hair_radii, look.hair, slot)
    painter.hull(np.stack([centre, centre - [0, 0, 0.02 * h]]), [0.055 * h, 0.046 * h], look.skin, slot)
    if facing_away:
        painter.hull(back, hair_radii, look.hair, slot)
    else:
        painter.hull(centre[None] + [[-0.012 * h, 0, 0.036 * h]], [0.046 * h], look.hair, slot)
    if look.bag == "hat":
        painter.hull(centre[None] + [[0, 0, 0.042 * h]], [0.056 * h], look.bag_colour, slot)


def darker(colour: Colour, gain: float = 0.84) -> Colour:
    """The colour with less light."""
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


@dataclass(frozen=True)
class BicycleLook:
    """A bicycle's colour and build."""

    colour: Colour
    wheel_m: float
    basket: bool
    fenders: bool

    @classmethod
    def random(cls, rng: np.random.Generator) -> BicycleLook:
        return cls(
            colour=vary(_FRAMES[rng.integers(len(_FRAMES))], rng),
            wheel_m=rng.uniform(0.31, 0.36),
            basket=bool(rng.random() < 0.3),
            fenders=bool(rng.random() < 0.5),
        )


def paint_bicycle(painter: Painter, look: BicycleLook, phase: float, slot: int = 0) -> None:
    """A bicycle, 1.7 m long; ``phase`` turns its wheels and cranks, in radians."""
    r = look.wheel_m
    turn = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    rim = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], axis=1) * r
    rear, front = np.array([-0.53, 0, r]), np.array([0.53, 0, r])
    for hub in (rear, front):
        painter.stroke(hub + rim, 0.06, (26, 26, 28), slot, closed=True)
        painter.stroke(hub + rim * 0.9, 0.02, (150, 152, 156), slot, closed=True)
        for spoke in range(4):
            angle = spoke * np.pi / 4 + phase * 2
            tip = 0.9 * r * np.array([np.cos(angle), 0, np.sin(angle)])
            painter.stroke(np.stack([hub - tip, hub + tip]), 0.008, (130, 132, 136), slot)
        if look.fenders:
            painter.stroke(hub + rim[2:10] * 1.12, 0.045, darker(look.colour), slot)
    saddle, crank, bars = np.array([-0.2, 0, 0.9]), np.array([-0.06, 0, 0.3]), np.array([0.4, 0, 0.98])
    head = np.array([0.36, 0, 0.8])
    for ends in ((rear, crank), (crank, head), (saddle, crank), (rear, saddle - [0, 0, 0.12]), (head, front)):
        painter.stroke(np.stack(ends), 0.05, look.colour, slot)
    painter.stroke(np.stack([saddle - [0, 0, 0.1], head]), 0.05, look.colour, slot)
    painter.stroke(np.stack([head, bars]), 0.04, (60, 62, 66), slot)
    painter.stroke(np.stack([bars + [0.02, 0.27, 0.02], bars, bars + [0.02, -0.27, 0.02]]), 0.045, (40, 40, 44), slot)
    painter.stroke(np.stack([saddle - [0.13, 0, 0], saddle + [0.13, 0, 0.01]]), 0.09, (30, 28, 28), slot)
    pedal = 0.17 * np.array([np.cos(phase), 0, np.sin(phase)])
    painter.stroke(np.stack([crank - pedal, crank + pedal]), 0.03, (70, 70, 74), slot)
    if look.basket:
        painter.hull(np.array([[0.55, 0, 0.82], [0.62, 0, 0.95]]), [0.12, 0.13], (120, 96, 66), slot)
    for hub in (rear, front):
        painter.shadow(hub + rim[::3], 0.03)
    if painter.light.lamps > 0:
        painter.glow(np.array([0.5, 0, 0.85]) if painter.eye[0] > 0 else np.array([-0.5, 0, 0.6]), 0.05,
                     (255, 244, 214) if painter.eye[0] > 0 else (255, 50, 40))  # fmt: skip


def paint_rider(painter: Painter, look: PersonLook, bicycle: BicycleLook, phase: float) -> None:
    """A person (slot 0) on a bicycle (slot 1)."""
    scale = look.height_m / 1.75
    crank, hip = np.array([-0.06, 0, 0.3]), np.array([-0.2, 0, 0.98])
    shoulder = hip + scale * np.array([0.3, 0, 0.46])
    near = -1 if painter.eye[1] < 0 else 1
    for side in (-near, near):
        if side == near:
            paint_bicycle(painter, bicycle, phase, slot=1)
        angle = phase + (0 if side > 0 else np.pi)
        foot = crank + 0.17 * np.array([np.cos(angle), 0, np.sin(angle)]) + [0, side * 0.12, 0.03]
        leg_hip = hip + [0, side * 0.09, 0]
        reach = foot - leg_hip
        bend = np.sqrt(max(0.46**2 - float(reach @ reach) / 4, 0.0))
        knee = leg_hip + reach / 2 + bend * np.array([-reach[2], 0, reach[0]]) / max(np.hypot(reach[0], reach[2]), 1e-6)
        painter.hull(np.stack([leg_hip, knee]), [0.095 * look.girth, 0.065], look.legs)
        painter.hull(np.stack([knee, foot]), [0.062, 0.042], look.legs)
        painter.hull(np.stack([foot, foot + [0.14, 0, -0.02]]), [0.042, 0.03], look.shoes)
        if side == -near:
            _paint_rider_arm(painter, look, shoulder, side)
    torso = np.stack([hip + [0, 0.09, 0], hip + [0, -0.09, 0], shoulder + [0, 0.16, 0], shoulder + [0, -0.16, 0]])
    painter.hull(torso, [0.12 * look.girth] * 2 + [0.085] * 2, look.top)
    if look.bag == "backpack":
        painter.hull(np.stack([hip + [-0.05, 0, 0.2], shoulder + [-0.15, 0, 0]]), [0.13, 0.11], look.bag_colour)
    _paint_rider_arm(painter, look, shoulder, near)
    _paint_head(painter, look, shoulder + scale * np.array([0.1, 0, 0.2]), 0)
    painter.shadow(np.stack([crank, hip]), 0.12)
    painter.shadow(np.stack([hip, shoulder, shoulder + [0.1, 0, 0.3]]), 0.17)


def _paint_rider_arm(painter: Painter, look: PersonLook, shoulder: Floats, side: int) -> None:
    hand = np.array([0.42, side * 0.25, 1.01])
    start = shoulder + [0, side * 0.18, -0.02]
    elbow = (start + hand) / 2 + [-0.03, side * 0.05, -0.06]
    painter.hull(np.stack([start, elbow]), [0.06, 0.048], darker(look.top))
    painter.hull(np.stack([elbow, hand]), [0.046, 0.036], darker(look.top))
    painter.hull(hand[None], [0.042], look.skin)
