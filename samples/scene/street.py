# ruff: noqa: RUF005 - vectors are added here, not joined
"""The plan of a street (lanes, kerbs, crossings, buildings) and its ground seen from above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from .drawing import Colour

Pixels = NDArray[np.uint8]

LANE_M = 3.2
PARKING_M = 2.2
GROUND_PX_PER_M = 20
GROUND_X_M = (-34.0, 34.0)
GROUND_Y_M = (-14.0, 96.0)
FACADE_PX_PER_M = 16


@dataclass(frozen=True)
class Building:
    """A box along one side (-1 left, 1 right) of the street, or across its far end (0)."""

    side: int
    start_m: float
    """Along the street, or across it for the far end."""
    length_m: float
    height_m: float
    seed: int


@dataclass(frozen=True)
class StreetPlan:
    """A straight street along +y with right-hand traffic: x > 0 drives towards +y."""

    lanes: int
    """In each direction."""
    bike_lane_m: float
    parking: tuple[bool, bool]
    """On the left, on the right."""
    pavement_m: float
    crossings_m: tuple[float, ...]
    """y of each zebra crossing's middle."""
    end_m: float
    """y of the buildings that close the street."""
    asphalt: Colour
    slabs: Colour
    bike_lane: Colour
    seed: int
    buildings: tuple[Building, ...] = field(default=())

    @property
    def road_half_m(self) -> float:
        """From the middle to the outer edge of the bike lane."""
        return self.lanes * LANE_M + self.bike_lane_m

    def kerb_m(self, side: int) -> float:
        """|x| of the kerb on a side."""
        return self.road_half_m + (PARKING_M if self.parking[0 if side < 0 else 1] else 0.0)

    def facade_m(self, side: int) -> float:
        """|x| of the building fronts on a side."""
        return self.kerb_m(side) + self.pavement_m

    def lane_x(self, direction: int, lane: int) -> float:
        """x of the middle of a lane; ``direction`` 1 drives towards +y, lane 0 is the inner one."""
        return direction * (lane + 0.5) * LANE_M

    def bike_x(self, direction: int) -> float:
        """x where cyclists ride."""
        return direction * (self.lanes * LANE_M + (self.bike_lane_m / 2 if self.bike_lane_m else -0.55))

    def parking_x(self, side: int) -> float:
        """x of the middle of the parking strip."""
        return side * (self.road_half_m + PARKING_M / 2)

    @classmethod
    def random(cls, rng: np.random.Generator) -> StreetPlan:
        grey = rng.uniform(82, 132)
        slab = rng.uniform(138, 196)
        tints = ((150, 70, 60), (74, 120, 84), (grey * 0.96,) * 3)
        end = rng.uniform(46, 84)
        plan = cls(
            lanes=int(rng.choice([1, 1, 2])),
            bike_lane_m=float(rng.choice([0.0, 1.6, 1.8])),
            parking=(bool(rng.random() < 0.6), bool(rng.random() < 0.6)),
            pavement_m=rng.uniform(2.6, 5.5),
            crossings_m=tuple(rng.uniform(8, min(40, end - 14), rng.integers(0, 3))),
            end_m=end,
            asphalt=(grey, grey * rng.uniform(0.97, 1.02), grey * rng.uniform(0.97, 1.06)),
            slabs=(slab, slab * rng.uniform(0.93, 1.0), slab * rng.uniform(0.84, 0.99)),
            bike_lane=tints[rng.integers(3)],
            seed=int(rng.integers(1 << 31)),
        )
        return plan.with_buildings(rng)

    def with_buildings(self, rng: np.random.Generator) -> StreetPlan:
        """The plan with buildings along both sides and across the end."""
        buildings = []
        for side in (-1, 1, 0):
            at, stop = (-13.0, self.end_m - 9.0) if side else (-34.0, 34.0)
            while at < stop:
                length = min(rng.uniform(8, 18), max(stop - at, 4.0))
                seed = int(rng.integers(1 << 31))
                if side == 0 or rng.random() > 0.08:
                    buildings.append(Building(side, at, length, rng.uniform(7, 21), seed))
                at += length
        return StreetPlan(**{**self.__dict__, "buildings": tuple(buildings)})


def _noise(rng: np.random.Generator, height: int, width: int, cell: int) -> NDArray[np.float32]:
    """Smooth noise ``[height, width]`` with deviation near 1 and features of ``cell`` pixels."""
    small = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def ground_texture(plan: StreetPlan) -> Pixels:
    """The ground from above, ``[H, W, 3]``: rows along +y from GROUND_Y_M[0], columns along +x."""
    rng = np.random.default_rng(plan.seed)
    scale = GROUND_PX_PER_M
    height = int((GROUND_Y_M[1] - GROUND_Y_M[0]) * scale)
    width = int((GROUND_X_M[1] - GROUND_X_M[0]) * scale)
    ground = np.empty((height, width, 3), np.uint8)
    ground[:] = np.asarray(plan.slabs)

    def box(x0: float, x1: float, y0: float, y1: float, colour: Colour) -> None:
        corner = ((np.array([x0, y0]) - (GROUND_X_M[0], GROUND_Y_M[0])) * scale).round().astype(int)
        opposite = ((np.array([x1, y1]) - (GROUND_X_M[0], GROUND_Y_M[0])) * scale).round().astype(int)
        cv2.rectangle(ground, corner.tolist(), (opposite - 1).tolist(), colour, -1)

    left, right = -plan.kerb_m(-1), plan.kerb_m(1)
    joint = tuple(0.88 * c for c in plan.slabs)
    step = rng.choice([0.6, 0.9, 1.2])
    for y in np.arange(*GROUND_Y_M, step):
        box(*GROUND_X_M, y, y + 0.05, joint)
    for x in np.arange(*GROUND_X_M, step):
        box(x, x + 0.05, *GROUND_Y_M, joint)
    box(left - 0.22, right + 0.22, *GROUND_Y_M, (186, 184, 180))
    box(left, right, *GROUND_Y_M, plan.asphalt)
    box(*GROUND_X_M, plan.end_m - 8.5, plan.end_m - 2.5, plan.asphalt)
    _patches(rng, plan, box)
    _markings(plan, box)
    _covers(rng, plan, ground)
    grain = 3.5 * _noise(rng, height, width, 2) + 4 * _noise(rng, height, width, 9) + 5 * _noise(rng, height, width, 70)
    grey = cv2.convertScaleAbs(grain, alpha=1.0, beta=64.0)
    return cv2.subtract(cv2.add(ground, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)), (64, 64, 64, 0))


def _patches(rng: np.random.Generator, plan: StreetPlan, box: Callable[..., None]) -> None:
    """Repaired asphalt, tyre tracks and gutters."""
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(-plan.road_half_m, plan.road_half_m - 1), rng.uniform(0, plan.end_m - 12)
        tone = rng.uniform(0.86, 1.06)
        patch = tuple(min(255.0, tone * c) for c in plan.asphalt)
        box(x, min(x + rng.uniform(0.6, 3), plan.road_half_m), y, y + rng.uniform(0.6, 6), patch)
    worn = tuple(0.95 * c for c in plan.asphalt)
    for direction in (-1, 1):
        for lane in range(plan.lanes):
            for offset in (-0.8, 0.65):
                x = plan.lane_x(direction, lane) + offset
                box(x, x + 0.3, GROUND_Y_M[0], plan.end_m - 8.5, worn)
        kerb = direction * plan.kerb_m(direction)
        box(min(kerb, kerb - direction * 0.3), max(kerb, kerb - direction * 0.3), GROUND_Y_M[0], plan.end_m - 8.5, worn)


def _markings(plan: StreetPlan, box: Callable[..., None]) -> None:
    """Lane lines, the bike lane, parking bays and zebra crossings."""
    white = (226, 226, 222)
    stop = plan.end_m - 9
    for side in (-1, 1):
        edge = side * plan.lanes * LANE_M
        if plan.bike_lane_m:
            outer = edge + side * plan.bike_lane_m
            box(min(edge, outer), max(edge, outer), GROUND_Y_M[0], stop, plan.bike_lane)
        box(edge - 0.06, edge + 0.06, GROUND_Y_M[0], stop, white)
        for lane in range(1, plan.lanes):
            for y in np.arange(GROUND_Y_M[0], stop, 6):
                box(side * lane * LANE_M - 0.06, side * lane * LANE_M + 0.06, y, y + 3, white)
        if plan.parking[0 if side < 0 else 1]:
            inner, kerb = side * plan.road_half_m, side * plan.kerb_m(side)
            for y in np.arange(GROUND_Y_M[0], stop, 6.2):
                box(min(inner, kerb), max(inner, kerb), y, y + 0.1, white)
    for y in np.arange(GROUND_Y_M[0], stop, 4.5):
        box(-0.07, 0.07, y, y + (4.5 if plan.lanes > 1 else 2.2), white)
    for y in plan.crossings_m:
        box(-plan.kerb_m(-1), plan.kerb_m(1), y - 1.7, y + 1.7, plan.asphalt)
        for x in np.arange(-plan.kerb_m(-1) + 0.35, plan.kerb_m(1) - 0.5, 1.0):
            box(x, x + 0.5, y - 1.6, y + 1.6, white)
        for side in (-1, 1):
            stop_y = y - side * 2.6
            box(min(0.2 * side, side * plan.lanes * LANE_M), max(0.2 * side, side * plan.lanes * LANE_M),
                stop_y - 0.15, stop_y + 0.15, white)  # fmt: skip


def _covers(rng: np.random.Generator, plan: StreetPlan, ground: Pixels) -> None:
    """Manhole covers and cracks."""
    for _ in range(rng.integers(2, 8)):
        at = np.array([rng.uniform(-plan.facade_m(-1), plan.facade_m(1)), rng.uniform(2, plan.end_m)])
        place = ((at - (GROUND_X_M[0], GROUND_Y_M[0])) * GROUND_PX_PER_M).astype(int).tolist()
        cv2.circle(ground, place, int(0.35 * GROUND_PX_PER_M), (74, 72, 70), -1, cv2.LINE_AA)
        cv2.circle(ground, place, int(0.3 * GROUND_PX_PER_M), (96, 94, 92), 2, cv2.LINE_AA)
    for _ in range(rng.integers(2, 8)):
        steps = rng.normal([0.0, 0.35], 0.25, (14, 2)).cumsum(axis=0)
        at = steps + [rng.uniform(-plan.road_half_m, plan.road_half_m), rng.uniform(0, plan.end_m - 12)]
        points = ((at - (GROUND_X_M[0], GROUND_Y_M[0])) * GROUND_PX_PER_M).astype(np.int32)
        cv2.polylines(ground, [points], False, tuple(0.75 * c for c in plan.asphalt), 1, cv2.LINE_AA)


_WALLS = (
    (176, 120, 96), (196, 178, 148), (214, 204, 186), (150, 146, 140), (168, 96, 78), (190, 168, 120), (120, 124, 130),
    (206, 190, 170), (140, 104, 88), (182, 188, 190), (222, 214, 190), (134, 150, 158),
)  # fmt: skip
_AWNINGS = ((150, 40, 40), (40, 90, 70), (50, 70, 120), (200, 150, 60), (90, 60, 90), (60, 60, 64))


def facade_texture(length_m: float, height_m: float, seed: int) -> tuple[Pixels, Pixels]:
    """A building front ``[H, W, 3]``, top row first, and the light its lit windows give off at night."""
    rng = np.random.default_rng(seed)
    scale = FACADE_PX_PER_M
    width, height = max(int(length_m * scale), 8), int(height_m * scale)
    wall = np.asarray(_WALLS[rng.integers(len(_WALLS))]) + rng.uniform(-10, 10)
    grain = 5 * _noise(rng, height, width, 3) + 4 * _noise(rng, height, width, 30)
    facade = np.clip(wall + grain[..., None], 0, 255).astype(np.uint8)
    lit = np.zeros_like(facade)
    storey = rng.uniform(3.0, 3.6)
    if wall[0] > wall[2] * 1.25:
        for row in range(0, height, 5):
            facade[row] = facade[row] * 0.92
    _shop_front(rng, facade, lit, wall, int(3.4 * scale))
    pitch = rng.uniform(1.9, 3.0)
    count = max(1, int((length_m - 0.8) / pitch))
    margin = (length_m - count * pitch) / 2
    size = np.array([rng.uniform(0.9, pitch - 0.6), rng.uniform(1.3, 2.0)])
    frame = tuple((wall * rng.choice([0.6, 1.25])).clip(0, 250))
    for floor in range(int((height_m - 4.4) / storey)):
        bottom = height_m - 4.3 - floor * storey
        for column in range(count):
            x = margin + (column + 0.5) * pitch - size[0] / 2
            _window(rng, facade, lit, (x, bottom - size[1]), size, frame)
        ledge = int((bottom + 0.45) * scale)
        facade[ledge : ledge + 3] = facade[ledge : ledge + 3] * 0.8
    facade[: int(0.4 * scale)] = facade[: int(0.4 * scale)] * 0.78
    facade[:, :2] = facade[:, :2] * 0.7
    return facade, lit


def _window(
    rng: np.random.Generator,
    facade: Pixels,
    lit: Pixels,
    corner: tuple[float, float],
    size: NDArray[np.float64],
    frame: Colour,
) -> None:
    """One window with its top left ``corner`` and ``size`` in metres."""
    scale = FACADE_PX_PER_M
    x0, y0 = (np.asarray(corner) * scale).astype(int).tolist()
    x1, y1 = ((np.asarray(corner) + size) * scale).astype(int).tolist()
    cv2.rectangle(facade, (x0 - 1, y0 - 1), (x1 + 1, y1 + 1), frame, -1)
    tone = rng.uniform(0.75, 1.2)
    cv2.rectangle(facade, (x0 + 1, y0 + 1), (x1 - 1, y1 - 1), (62 * tone, 76 * tone, 90 * tone), -1)
    cv2.line(facade, (x0 + 1, y1 - 2), (x1 - 1, y0 + 1), (88 * tone, 104 * tone, 118 * tone), 3)
    middle = (x0 + x1) // 2
    cv2.line(facade, (middle, y0), (middle, y1), frame, 1)
    if rng.random() < 0.35:
        warmth = rng.uniform(0.5, 1.0)
        cv2.rectangle(lit, (x0 + 1, y0 + 1), (x1 - 1, y1 - 1), (235 * warmth, 186 * warmth, 110 * warmth), -1)
        cv2.line(lit, (middle, y0), (middle, y1), (60, 46, 30), 1)


def _shop_front(rng: np.random.Generator, facade: Pixels, lit: Pixels, wall: NDArray[np.float64], tall: int) -> None:
    """Shop windows, doors, awnings and signs on the ground floor, the bottom ``tall`` rows."""
    height, width = facade.shape[:2]
    scale = FACADE_PX_PER_M
    base = height - tall
    facade[base:] = np.clip(wall * rng.uniform(0.55, 1.1), 20, 235)
    x = int(0.5 * scale)
    while x < width - 2 * scale:
        span = int(rng.uniform(1.2, 4.0) * scale)
        stop = min(x + span, width - 6)
        glass = (np.array([50, 60, 70]) * rng.uniform(0.8, 1.5)).tolist()
        top = base + int(0.8 * scale)
        foot = height - (2 if span < 1.8 * scale else int(0.5 * scale))
        cv2.rectangle(facade, (x, top), (stop, foot), glass, -1)
        cv2.line(facade, (x + 4, foot - 4), (stop - 4, top + 4), (np.array(glass) * 1.35).tolist(), 4)
        if rng.random() < 0.6:
            cv2.rectangle(lit, (x, top), (stop, foot), (220, 190, 130), -1)
        if rng.random() < 0.4:
            colour = _AWNINGS[rng.integers(len(_AWNINGS))]
            cv2.rectangle(facade, (x - 4, top - 4), (stop + 4, top + int(0.7 * scale)), colour, -1)
            if rng.random() < 0.5:
                for stripe in range(x - 4, stop, 12):
                    cv2.rectangle(facade, (stripe, top - 4), (stripe + 5, top + int(0.7 * scale)), (220, 216, 208), -1)
        elif rng.random() < 0.5:
            sign = _AWNINGS[rng.integers(len(_AWNINGS))]
            cv2.rectangle(facade, (x, base + 2), (stop, top - 4), sign, -1)
            for letter in range(x + 6, stop - 8, 8):
                cv2.rectangle(facade, (letter, base + 5), (letter + 4, top - 7), (228, 222, 206), -1)
        x = stop + int(rng.uniform(0.4, 1.0) * scale)
