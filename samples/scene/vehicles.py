"""Cars and trucks as small convex meshes with windows, wheels and lamps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .drawing import Colour, Floats, Painter
from .people import darker, vary

_PAINTS = (
    (232, 232, 230), (182, 186, 190), (112, 116, 122), (34, 36, 40), (30, 60, 120), (150, 26, 30), (60, 96, 150),
    (44, 74, 58), (196, 182, 150), (216, 170, 40), (206, 92, 34), (92, 30, 44), (70, 140, 150), (244, 244, 244),
)  # fmt: skip
_BOXES = (
    (236, 236, 232),
    (214, 218, 222),
    (60, 100, 160),
    (176, 40, 36),
    (232, 190, 60),
    (60, 124, 84),
    (150, 150, 148),
)
_GLASS, _RUBBER, _DARK = (56, 70, 84), (24, 24, 26), (40, 42, 46)
_CAR_SHAPES = {
    # length, width, height, belt height, then x of the cabin's rear base, rear roof, front roof, front base (0-1)
    "hatchback": (3.9, 1.74, 1.48, 0.92, 0.03, 0.14, 0.55, 0.76),
    "saloon": (4.6, 1.80, 1.44, 0.92, 0.16, 0.30, 0.56, 0.74),
    "estate": (4.6, 1.80, 1.47, 0.92, 0.02, 0.09, 0.56, 0.74),
    "suv": (4.5, 1.88, 1.70, 1.05, 0.03, 0.10, 0.58, 0.75),
    "small": (3.4, 1.62, 1.52, 0.92, 0.03, 0.12, 0.60, 0.84),
}


@dataclass(frozen=True)
class CarLook:
    """A car's build and paint."""

    shape: str
    paint: Colour
    roof: Colour
    scale: float
    taxi_sign: bool
    roof_rack: bool

    @property
    def length_m(self) -> float:
        return _CAR_SHAPES[self.shape][0] * self.scale

    @classmethod
    def random(cls, rng: np.random.Generator) -> CarLook:
        paint = vary(_PAINTS[rng.integers(len(_PAINTS))], rng)
        return cls(
            shape=tuple(_CAR_SHAPES)[rng.integers(len(_CAR_SHAPES))],
            paint=paint,
            roof=(30, 30, 34) if rng.random() < 0.12 else paint,
            scale=rng.uniform(0.95, 1.06),
            taxi_sign=bool(rng.random() < 0.05),
            roof_rack=bool(rng.random() < 0.1),
        )


@dataclass(frozen=True)
class TruckLook:
    """A truck's build and paint."""

    body: str
    """'box', 'flatbed' or 'tipper'."""
    cab: Colour
    load: Colour
    stripe: Colour | None
    length_m: float
    height_m: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> TruckLook:
        return cls(
            body=("box", "flatbed", "tipper")[rng.choice(3, p=[0.64, 0.16, 0.2])],
            cab=vary(_PAINTS[rng.integers(len(_PAINTS))], rng),
            load=vary(_BOXES[rng.integers(len(_BOXES))], rng),
            stripe=vary(_PAINTS[rng.integers(len(_PAINTS))], rng) if rng.random() < 0.6 else None,
            length_m=rng.uniform(6.2, 8.6),
            height_m=rng.uniform(2.9, 3.5),
        )


def _prism(profile: Floats, half_widths: Floats) -> list[tuple[Floats, Floats]]:
    """Faces (corners ``[K, 3]``, unit normal ``[3]``) of a side profile ``[K, 2]`` (x, z) with half widths ``[K]``.

    The profile runs clockwise as seen from the left (+y): rear bottom, up, forward, down to the front bottom.
    The first two faces are the left and right sides.
    """
    left = np.column_stack([profile[:, 0], half_widths, profile[:, 1]])
    right = left * [1, -1, 1]
    faces = [left, right]
    faces += [np.stack([left[i], left[i + 1], right[i + 1], right[i]]) for i in range(len(profile) - 1)]
    centre = left.mean(axis=0) * [1, 0, 1]
    result = []
    for corners in faces:
        normal = np.cross(corners, np.roll(corners, -1, axis=0)).sum(axis=0)  # Newell: holds for bent faces too
        normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
        if np.dot(normal, corners.mean(axis=0) - centre) < 0:
            normal = -normal
        result.append((corners, normal))
    return result


def _on_quad(quad: Floats, u0: float, v0: float, u1: float, v1: float) -> Floats:
    """The part of a quad ``[4, 3]`` between fractions u (corner 0 to 3) and v (corner 0 to 1)."""
    a, b, c, d = quad

    def at(u: float, v: float) -> Floats:
        return (a * (1 - v) + b * v) * (1 - u) + (d * (1 - v) + c * v) * u

    return np.stack([at(u0, v0), at(u0, v1), at(u1, v1), at(u1, v0)])


def _wheels(painter: Painter, places: tuple[float, ...], y: float, radius: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    disc = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], axis=1)
    normal = np.array([0, np.sign(y), 0.0])
    for x in places:
        hub = np.array([x, y, radius])
        painter.poly(np.maximum(hub + disc * radius * 1.16 + [0, 0, 0.02], [-99, -99, 0.1]), (18, 18, 20))
        painter.poly(hub + disc * radius, _RUBBER)
        painter.poly(hub + disc * radius * 0.62, (158, 160, 164), normal=normal)
        painter.poly(hub + disc * radius * 0.2, (80, 82, 86))


def _lamp_pair(painter: Painter, x: float, y: float, z: float, size: tuple[float, float], front: bool) -> None:
    """Two lamps on the front or rear face, of a (width, height) in metres."""
    colour = (248, 246, 232) if front else (190, 24, 24)
    lit = painter.light.lamps > 0.05
    for side in (1, -1):
        corners = [[x, side * y + dy, z + dz] for dy, dz in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        quad = np.array(corners, dtype=float)
        quad[:, 1] = side * y + np.array([-1, -1, 1, 1]) * size[0] / 2
        quad[:, 2] = z + np.array([-1, 1, 1, -1]) * size[1] / 2
        painter.poly(quad, colour)
        if lit:
            glow = (255, 240, 205) if front else (255, 40, 30)
            painter.glow(np.array([x, side * y, z]), 0.16 if front else 0.09, glow)


def paint_car(painter: Painter, look: CarLook) -> None:
    """A car, front towards local +x."""
    length, width, height, belt, *cabin_x = (value for value in _CAR_SHAPES[look.shape])
    length, half = length * look.scale, width * look.scale / 2
    x0 = -length / 2
    deck = belt - (0.04 if look.shape == "saloon" else 0.0)
    body = np.array([
        [x0 + 0.02, 0.22], [x0, 0.5], [x0 + 0.06, deck - 0.08], [x0 + 0.14, deck],
        [x0 + length * cabin_x[3], belt - 0.02], [x0 + length - 0.22, belt - 0.2],
        [x0 + length - 0.02, belt - 0.34], [x0 + length, 0.45], [x0 + length - 0.04, 0.22],
    ])  # fmt: skip
    tuck = np.array([0.93, 0.98, 0.97, 0.93, 0.95, 0.92, 0.93, 0.95, 0.9])
    faces = _prism(body, half * tuck)
    for corners, normal in (*faces[2:], *faces[:2]):
        if painter.faces_camera(corners, normal):
            painter.poly(corners, look.paint, normal=normal)
    rear, front = painter.eye[0] < x0, painter.eye[0] > x0 + length
    if rear:
        _paint_end(painter, x0 - 0.005, half, deck, front=False)
    if front:
        _paint_end(painter, x0 + length + 0.005, half, belt - 0.16, front=True)
    _paint_car_sides(painter, look, x0, length, half, belt)
    _paint_cabin(painter, look, [x0 + length * x for x in cabin_x], half, deck, height * look.scale)
    ends = [[x, y, z] for x in (x0, -x0) for y in (-half, half) for z in (0.1, belt - 0.1)]
    roof = [[x0 + length * x, y * 0.8, height] for x in cabin_x[1:3] for y in (-half, half)]
    painter.shadow(np.array(ends + roof))


def _paint_end(painter: Painter, x: float, half: float, top: float, front: bool) -> None:
    """Bumper, plate, lamps and grille of a car's front or rear."""

    def band(y: float, z0: float, z1: float, colour: Colour) -> None:
        painter.poly(np.array([[x, -y, z0], [x, -y, z1], [x, y, z1], [x, y, z0]]), colour)

    band(half * 0.88, 0.24, 0.4, _DARK)
    if front:
        band(half * 0.4, 0.44, 0.58, (30, 32, 36))
    band(0.24, 0.42, 0.52, (226, 224, 196))
    _lamp_pair(painter, x, half * 0.72, top - 0.14, (0.34, 0.13) if front else (0.24, 0.2), front)


def _paint_car_sides(painter: Painter, look: CarLook, x0: float, length: float, half: float, belt: float) -> None:
    for side in (1, -1):
        y = side * half * 0.985
        if (painter.eye[1] - y) * side <= 0:
            continue
        sill = np.array([[x0 + 0.5, y, 0.22], [x0 + 0.5, y, 0.3], [-x0 - 0.5, y, 0.3], [-x0 - 0.5, y, 0.22]])
        painter.poly(sill, _DARK)
        for x in (x0 + length * 0.36, x0 + length * 0.58):
            painter.stroke(np.array([[x, y, 0.32], [x, y, belt - 0.04]]), 0.018, darker(look.paint, 0.55))
        handle = np.array([[x0 + length * 0.4, y, belt - 0.18], [x0 + length * 0.44, y, belt - 0.18]])
        painter.stroke(handle, 0.03, darker(look.paint, 0.7))
        _wheels(painter, (x0 + length * 0.19, x0 + length * 0.81), y, 0.31)


def _paint_cabin(painter: Painter, look: CarLook, xs: list[float], half: float, belt: float, height: float) -> None:
    profile = np.array([[xs[0], belt], [xs[1], height], [xs[2], height], [xs[3], belt]])
    faces = _prism(profile, half * np.array([0.93, 0.76, 0.76, 0.93]))
    left, right, rear, roof, windscreen = faces
    for quad, normal in (rear, windscreen, left, right, roof):
        if not painter.faces_camera(quad, normal):
            continue
        painter.poly(quad, look.roof, normal=normal)
        if quad is roof[0]:
            continue
        if quad is rear[0] or quad is windscreen[0]:
            painter.poly(_on_quad(quad, 0.07, 0.08, 0.93, 0.93), _GLASS, normal=normal)
            painter.poly(_on_quad(quad, 0.1, 0.55, 0.45, 0.9), (96, 112, 126), normal=normal)
        else:
            for u0, u1 in ((0.1, 0.47), (0.52, 0.93)):
                painter.poly(_on_quad(quad, u0, 0.06, u1, 0.86), _GLASS, normal=normal)
    for side in (1, -1):
        mirror = np.array([[xs[3] - 0.35, side * (half + 0.08), belt + 0.08]])
        painter.hull(mirror, [0.09], look.paint)
    if look.taxi_sign:
        painter.hull(np.array([[0, 0.15, height + 0.06], [0, -0.15, height + 0.06]]), [0.08, 0.08], (240, 220, 90))
    if look.roof_rack:
        for x in (xs[1] + 0.2, xs[2] - 0.1):
            ends = np.array([[x, half * 0.74, height + 0.05], [x, -half * 0.74, height + 0.05]])
            painter.stroke(ends, 0.05, _DARK)


def _box(x0: float, x1: float, half: float, z0: float, z1: float) -> list[tuple[Floats, Floats]]:
    return _prism(np.array([[x0, z0], [x0, z1], [x1, z1], [x1, z0]]), np.full(4, half))


def _paint_faces(painter: Painter, faces: list[tuple[Floats, Floats]], colour: Colour) -> None:
    for corners, normal in (*faces[2:], *faces[:2]):
        if painter.faces_camera(corners, normal):
            painter.poly(corners, colour, normal=normal)


def paint_truck(painter: Painter, look: TruckLook) -> None:
    """A truck, front towards local +x."""
    x0, x1, half = -look.length_m / 2, look.length_m / 2, 1.18
    cab_x, cab_top = x1 - 1.75, min(2.75, look.height_m - 0.15)
    _paint_faces(painter, _box(x0, x1 - 0.3, half * 0.8, 0.5, 0.9), _DARK)
    parts = [lambda: _paint_load(painter, look, x0, cab_x - 0.12, half)]
    parts.insert(1 if painter.eye[0] > cab_x else 0, lambda: _paint_cab(painter, look, cab_x, x1, half, cab_top))
    for part in parts:
        part()
    axles = (x0 + 1.3, x0 + 2.3, x1 - 1.1) if look.length_m > 7.6 else (x0 + 1.5, x1 - 1.1)
    for side in (1, -1):
        y = side * half * 0.97
        if (painter.eye[1] - y) * side > 0:
            _wheels(painter, axles, y, 0.47)
    if painter.eye[0] < x0:
        bumper = np.array([[x0, -half, 0.45], [x0, -half, 0.7], [x0, half, 0.7], [x0, half, 0.45]])
        painter.poly(bumper, (60, 60, 62))
        _lamp_pair(painter, x0 - 0.01, half * 0.84, 0.58, (0.3, 0.16), front=False)
    load_top = look.height_m if look.body == "box" else 1.9
    tall = [[x, y, z] for x in (x0, cab_x) for y in (-half, half) for z in (0.1, load_top)]
    cab = [[x, y, z] for x in (cab_x, x1) for y in (-half, half) for z in (0.1, cab_top)]
    painter.shadow(np.array(tall))
    painter.shadow(np.array(cab))


def _paint_load(painter: Painter, look: TruckLook, x0: float, x1: float, half: float) -> None:
    if look.body == "box":
        faces = _box(x0, x1, half * 1.03, 0.92, look.height_m)
        _paint_faces(painter, faces, look.load)
        rear = faces[2]
        if painter.faces_camera(*rear):
            for u0, u1 in ((0.04, 0.49), (0.51, 0.96)):
                painter.poly(_on_quad(rear[0], u0, 0.03, u1, 0.97), darker(look.load, 0.92), normal=rear[1])
        for quad, normal in faces[:2]:
            if look.stripe is not None and painter.faces_camera(quad, normal):
                painter.poly(_on_quad(quad, 0.0, 0.38, 1.0, 0.6), look.stripe, normal=normal)
                painter.poly(_on_quad(quad, 0.3, 0.3, 0.62, 0.72), darker(look.stripe, 0.6), normal=normal)
    elif look.body == "tipper":
        profile = np.array([[x0 - 0.15, 0.95], [x0 - 0.25, 2.0], [x1, 2.25], [x1, 0.95]])
        _paint_faces(painter, _prism(profile, np.full(4, half * 1.03)), look.load)
        heap = np.array([[x0 + 0.8, 0, 1.75], [x1 - 1.0, 0, 1.95]])
        painter.hull(heap, [0.5, 0.6], (128, 108, 84))
        for side in (1, -1):
            y = side * half * 1.04
            if (painter.eye[1] - y) * side > 0:
                for x in np.linspace(x0 + 0.2, x1 - 0.2, 6):
                    rib = np.array([[x, y, 1.0], [x, y, 2.0]])
                    painter.stroke(rib, 0.09, darker(look.load, 0.72))
    else:
        _paint_faces(painter, _box(x0, x1, half * 1.03, 0.92, 1.25), look.load)
        crates = np.linspace(x0 + 0.2, x1 - 0.2, 4)
        pairs = list(pairwise(crates))
        for i, (a, b) in enumerate(pairs if painter.eye[0] > 0 else pairs[::-1]):
            tone = 0.8 + 0.12 * (i % 3)
            _paint_faces(
                painter, _box(a, b - 0.1, half * 0.9, 1.25, 1.7 + 0.25 * (i % 2)), darker((176, 138, 92), tone)
            )


def _paint_cab(painter: Painter, look: TruckLook, x0: float, x1: float, half: float, top: float) -> None:
    profile = np.array([[x0, 0.5], [x0, top], [x1 - 0.5, top], [x1 - 0.06, 1.55], [x1, 0.5]])
    faces = _prism(profile, half * np.array([0.98, 0.95, 0.95, 0.98, 0.98]))
    _paint_faces(painter, faces, look.cab)
    windscreen, grille = faces[4], faces[5]
    if painter.faces_camera(*windscreen):
        painter.poly(_on_quad(windscreen[0], 0.06, 0.12, 0.94, 0.94), _GLASS, normal=windscreen[1])
        painter.poly(_on_quad(windscreen[0], 0.1, 0.2, 0.42, 0.6), (96, 112, 126), normal=windscreen[1])
    if painter.faces_camera(*grille):
        painter.poly(_on_quad(grille[0], 0.22, 0.18, 0.78, 0.6), _DARK, normal=grille[1])
        painter.poly(_on_quad(grille[0], 0.02, 0.78, 0.98, 0.98), (70, 72, 76), normal=grille[1])
        _lamp_pair(painter, x1 + 0.01, half * 0.78, 0.82, (0.32, 0.2), front=True)
    for side in (1, -1):
        y = side * half * 0.985
        if (painter.eye[1] - y) * side <= 0:
            continue
        window = [[x0 + 0.55, y, 1.65], [x0 + 0.6, y, top - 0.3], [x1 - 0.66, y, top - 0.3], [x1 - 0.3, y, 1.65]]
        painter.poly(np.array(window), _GLASS)
        painter.stroke(np.array([[x0 + 0.5, y, 0.6], [x0 + 0.5, y, top - 0.25]]), 0.025, darker(look.cab, 0.6))
        mirror = np.array([[x1 - 0.25, y * 1.12, 1.7], [x1 - 0.25, y * 1.12, 2.1]])
        painter.stroke(mirror, 0.16, (26, 26, 28))
