"""Things that stand on the pavement and are not to be detected: lamps, trees, signs, bins, benches, bollards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .drawing import Colour, Painter
from .people import darker, vary
from .street import StreetPlan

_METAL = (70, 74, 78)
_LEAVES = ((74, 104, 52), (92, 118, 60), (58, 92, 56), (112, 116, 54), (136, 104, 48))


@dataclass(frozen=True)
class Prop:
    """One thing, where it stands and how it looks."""

    kind: str
    x: float
    y: float
    heading: float
    seed: int


def paint_prop(painter: Painter, prop: Prop) -> None:
    """Draw a prop with its painter already in place."""
    _PAINTERS[prop.kind](painter, np.random.default_rng(prop.seed))


def _post(painter: Painter, height: float, width: float, colour: Colour) -> None:
    painter.stroke(np.array([[0, 0, 0], [0, 0, height]]), width, colour)
    painter.shadow(np.array([[0, 0, 0], [0, 0, height]]), width / 2)


def _lamp(painter: Painter, rng: np.random.Generator) -> None:
    height = rng.uniform(4.6, 6.5)
    _post(painter, height, 0.13, _METAL)
    painter.stroke(np.array([[0, 0, height], [0.5, 0, height + 0.25], [1.3, 0, height + 0.2]]), 0.08, _METAL)
    painter.hull(np.array([[1.1, 0, height + 0.16], [1.6, 0, height + 0.16]]), [0.08, 0.07], (206, 206, 200))
    if painter.light.lamps > 0:
        painter.glow(np.array([1.35, 0, height + 0.1]), 0.2, (255, 222, 160))


def _tree(painter: Painter, rng: np.random.Generator) -> None:
    height = rng.uniform(4.0, 6.5)
    leaf = vary(_LEAVES[rng.integers(len(_LEAVES))], rng)
    trunk = rng.uniform(1.7, 2.4)
    painter.hull(np.array([[0, 0, 0], [0, 0, trunk + 0.6]]), [0.15, 0.1], (84, 66, 50))
    painter.shadow(np.array([[0, 0, 0], [0, 0, trunk]]), 0.12)
    middle = (trunk + height) / 2
    spread = rng.uniform(0.9, 1.35)
    for ring in range(22):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        centre = np.array([0, 0, middle + 0.3]) + direction * spread * [1, 1, 0.5 * (height - trunk) / spread]
        tone = 0.7 + 0.3 * (ring / 22) + 0.12 * direction[2]
        painter.hull(centre[None], [rng.uniform(0.4, 0.72)], darker(leaf, tone))
    turn = np.linspace(0, 2 * np.pi, 8)
    crown = np.stack([spread * 1.3 * np.cos(turn), spread * 1.3 * np.sin(turn), 0 * turn + middle + 0.3], axis=1)
    painter.shadow(crown)


def _sign(painter: Painter, rng: np.random.Generator) -> None:
    height = rng.uniform(2.2, 2.7)
    _post(painter, height, 0.07, (150, 152, 154))
    colour = ((190, 30, 34), (32, 80, 160), (226, 226, 222), (220, 180, 40))[rng.integers(4)]
    if rng.random() < 0.5:
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        disc = np.stack([0 * turn - 0.05, np.cos(turn), np.sin(turn)], axis=1)
        painter.poly(disc * [1, 0.33, 0.33] + [0, 0, height - 0.2], colour)
        painter.poly(disc * [1, 0.24, 0.24] + [-0.01, 0, height - 0.2], (230, 230, 228))
    else:
        corners = ((-0.3, -0.3), (-0.3, 0.3), (0.3, 0.3), (0.3, -0.3))
        board = np.array([[-0.05, y, height - 0.35 + z] for y, z in corners])
        painter.poly(board, colour)


def _bin(painter: Painter, rng: np.random.Generator) -> None:
    colour = vary(((60, 80, 66), (70, 72, 76), (40, 60, 92), (96, 70, 48))[rng.integers(4)], rng)
    width = rng.uniform(0.2, 0.32)
    tall = rng.uniform(0.8, 1.15)
    painter.hull(np.array([[0, 0, 0.1], [0, 0, tall - 0.15]]), [width * 0.85, width], colour)
    lid = np.array([[0, -0.05, tall - 0.06], [0, 0.05, tall - 0.06]])
    painter.hull(lid, [width * 0.9, width * 0.9], darker(colour))
    painter.shadow(np.array([[0, 0, 0], [0, 0, tall]]), width)


def _bollard(painter: Painter, rng: np.random.Generator) -> None:
    colour = _METAL if rng.random() < 0.6 else (196, 190, 176)
    painter.hull(np.array([[0, 0, 0.0], [0, 0, 0.85]]), [0.09, 0.08], colour)
    painter.hull(np.array([[0, 0, 0.74]]), [0.09], (214, 210, 200))
    painter.shadow(np.array([[0, 0, 0], [0, 0, 0.9]]), 0.09)


def _bench(painter: Painter, rng: np.random.Generator) -> None:
    wood = vary((138, 98, 62), rng)
    for y in (-0.7, 0.7):
        painter.stroke(np.array([[0, y, 0], [0, y, 0.45]]), 0.08, _METAL)
    for z, x in ((0.45, 0.15), (0.45, -0.1), (0.65, -0.22), (0.82, -0.26)):
        painter.stroke(np.array([[x, -0.9, z], [x, 0.9, z]]), 0.13, wood)
    painter.shadow(np.array([[0, -0.9, 0.45], [0, 0.9, 0.45], [-0.26, -0.9, 0.85], [-0.26, 0.9, 0.85]]))


def _planter(painter: Painter, rng: np.random.Generator) -> None:
    colour = vary((150, 144, 134), rng)
    painter.hull(np.array([[0, -0.5, 0.2], [0, 0.5, 0.2], [0, -0.5, 0.4], [0, 0.5, 0.4]]), [0.26] * 4, colour)
    leaf = vary(_LEAVES[rng.integers(len(_LEAVES))], rng)
    for _ in range(7):
        centre = np.array([[rng.uniform(-0.2, 0.2), rng.uniform(-0.5, 0.5), rng.uniform(0.6, 0.95)]])
        painter.hull(centre, [rng.uniform(0.16, 0.28)], darker(leaf, rng.uniform(0.8, 1.1)))
    painter.shadow(np.array([[0, -0.6, 0.2], [0, 0.6, 0.2], [0, -0.5, 0.9], [0, 0.5, 0.9]]), 0.2)


def _cabinet(painter: Painter, rng: np.random.Generator) -> None:
    """A junction box or a vending post."""
    colour = vary(((120, 126, 120), (90, 100, 96), (170, 160, 140), (150, 40, 40))[rng.integers(4)], rng)
    tall, half = rng.uniform(1.0, 1.7), rng.uniform(0.25, 0.5)
    for x, normal in ((-0.2, -1.0), (0.2, 1.0)):
        face = np.array([[x, -half, 0], [x, -half, tall], [x, half, tall], [x, half, 0]])
        if painter.faces_camera(face, np.array([normal, 0, 0])):
            painter.poly(face, colour, normal=np.array([normal, 0, 0]))
    for y, normal in ((-half, -1.0), (half, 1.0)):
        face = np.array([[-0.2, y, 0], [-0.2, y, tall], [0.2, y, tall], [0.2, y, 0]])
        if painter.faces_camera(face, np.array([0, normal, 0])):
            painter.poly(face, colour, normal=np.array([0, normal, 0]))
    top = np.array([[-0.2, -half, tall], [-0.2, half, tall], [0.2, half, tall], [0.2, -half, tall]])
    painter.poly(top, colour, normal=np.array([0, 0, 1.0]))
    painter.shadow(np.vstack([top, top * [1, 1, 0]]))


_PAINTERS = {
    "lamp": _lamp,
    "tree": _tree,
    "sign": _sign,
    "bin": _bin,
    "bollard": _bollard,
    "bench": _bench,
    "planter": _planter,
    "cabinet": _cabinet,
}


def random_props(plan: StreetPlan, rng: np.random.Generator, first_m: float = 5.0) -> list[Prop]:
    """Props along both pavements, near the kerb or near the buildings, from ``first_m`` on."""
    props = []
    for side in (-1, 1):
        near_kerb = side * (plan.kerb_m(side) + 0.6)
        near_wall = side * (plan.facade_m(side) - 0.5)
        towards_road = 0.0 if side < 0 else np.pi
        spacing = rng.uniform(13, 22)
        lamps = np.arange(first_m + rng.uniform(0, 8), plan.end_m - 10, spacing)
        props += [Prop("lamp", near_kerb, float(y), towards_road, 7) for y in lamps]
        if rng.random() < 0.7:
            props += [Prop("tree", near_kerb, float(y) + spacing / 2, 0.0, int(rng.integers(1 << 31))) for y in lamps]
        for _ in range(rng.integers(3, 10)):
            kind = ("sign", "bin", "bench", "planter", "cabinet", "bin", "sign")[rng.integers(7)]
            x = near_kerb if kind == "sign" or rng.random() < 0.4 else near_wall
            heading = -np.pi / 2 if kind == "sign" else towards_road
            props.append(Prop(kind, x, rng.uniform(first_m, plan.end_m - 10), heading, int(rng.integers(1 << 31))))
        if rng.random() < 0.4:
            start = rng.uniform(first_m, 30)
            props += [
                Prop("bollard", side * (plan.kerb_m(side) + 0.35), start + 1.6 * i, 0.0, 3)
                for i in range(rng.integers(3, 9))
            ]
    return props
