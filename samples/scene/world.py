"""Actors, and the rendering of one frame with its exact truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import Backdrop
from .drawing import SHIFT, SUPERSAMPLE, Camera, Glow, Light, Painter, Shape, ground_shadow
from .people import BicycleLook, PersonLook, paint_bicycle, paint_person, paint_rider
from .props import Prop, paint_prop
from .sensor import develop
from .street import Pixels, StreetPlan
from .vehicles import CarLook, TruckLook, paint_car, paint_truck

PERSON, BICYCLE, CAR, TRUCK = range(4)
_SLOT_CLASSES = {
    "person": (PERSON,),
    "cyclist": (PERSON, BICYCLE),
    "bicycle": (BICYCLE,),
    "car": (CAR,),
    "truck": (TRUCK,),
}
_PROP_ID = 60000
_BEYOND_M = 1000.0

MIN_VISIBLE_FRACTION = 0.25
MIN_LONG_SIDE_PX = 24.0
MIN_SHORT_SIDE_PX = 8.0


@dataclass
class Actor:
    """Something to be detected. A cyclist is two objects: the rider and the bicycle."""

    kind: str
    x: float
    y: float
    heading: float
    seed: int
    """Decides its looks."""
    first_object_id: int
    phase: float = 0.0
    """Walk or crank cycle, radians."""
    stride: float = 1.0
    """0 stands, 1 walks briskly."""
    looks: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        kinds = {
            "person": (PersonLook,),
            "cyclist": (PersonLook, BicycleLook),
            "bicycle": (BicycleLook,),
            "car": (CarLook,),
            "truck": (TruckLook,),
        }
        self.looks = tuple(look.random(rng) for look in kinds[self.kind])

    @property
    def length_m(self) -> float:
        """Room it takes along its heading."""
        if self.kind in ("car", "truck"):
            return float(self.looks[0].length_m)
        return 0.6 if self.kind == "person" else 1.8

    def paint(self, painter: Painter) -> None:
        if self.kind == "person":
            paint_person(painter, self.looks[0], self.phase, self.stride)
        elif self.kind == "cyclist":
            paint_rider(painter, self.looks[0], self.looks[1], self.phase)
        elif self.kind == "bicycle":
            paint_bicycle(painter, self.looks[0], self.phase)
        elif self.kind == "car":
            paint_car(painter, self.looks[0])
        else:
            paint_truck(painter, self.looks[0])


@dataclass(frozen=True)
class Truth:
    """One object in one frame."""

    object_id: int
    class_id: int
    xyxy: tuple[float, float, float, float]
    """Box of the visible part, source pixels."""
    full_xyxy: tuple[float, float, float, float]
    """Box of the whole object, hidden parts included, cut at the frame's edges."""
    visible: float
    """Visible pixels over all pixels the object would cover, those outside the frame included."""
    ignore: bool


def is_ignored(xyxy: tuple[float, float, float, float], visible: float) -> bool:
    """Too hidden or too small to be asked for."""
    sides = sorted((xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]))
    return visible < MIN_VISIBLE_FRACTION or sides[0] < MIN_SHORT_SIDE_PX or sides[1] < MIN_LONG_SIDE_PX


class Scene:
    """A street, a camera and its props, ready to render frames."""

    def __init__(self, plan: StreetPlan, camera: Camera, light: Light, props: list[Prop]) -> None:
        self.plan, self.camera, self.props = plan, camera, props
        self.backdrop = Backdrop(plan, camera, light, [prop for prop in props if prop.kind == "lamp"])
        self._painted: list[Painter] = []
        self._painted_under: Light | None = None

    def _prop_painters(self, light: Light) -> list[Painter]:
        before = self._painted_under
        if before is None or abs(before.direct - light.direct) > 0.02 or (before.lamps > 0) != (light.lamps > 0):
            self._painted = []
            for prop in self.props:
                painter = Painter(self.camera, light, prop.x, prop.y, prop.heading)
                painter.in_shadow = self.backdrop.in_shadow(painter)
                paint_prop(painter, prop)
                self._painted.append(painter)
            self._painted_under = light
        return self._painted

    def render(self, actors: list[Actor], light: Light, rng: np.random.Generator) -> tuple[Pixels, list[Truth]]:
        """One frame ``[H, W, 3]`` RGB as the camera's sensor gives it, and its truth."""
        painters: list[tuple[float, Painter, Actor | None]] = [
            (self._depth(painter), painter, None) for painter in self._prop_painters(light)
        ]
        for actor in actors:
            painter = Painter(self.camera, light, actor.x, actor.y, actor.heading)
            painter.in_shadow = self.backdrop.in_shadow(painter)
            actor.paint(painter)
            painters.append((self._depth(painter), painter, actor))
        painters.sort(key=lambda entry: -entry[0])

        canvas = self._lit_backdrop([painter for _, painter, _ in painters], light)
        empty = canvas.copy()
        ids = np.zeros(canvas.shape[:2], np.uint16)
        objects: list[tuple[Actor, int, list[Shape]]] = []
        glows: list[tuple[Glow, int]] = []
        behind_restored = False
        for depth, painter, actor in painters:
            if depth < _BEYOND_M and not behind_restored:
                behind_restored = True
                cv2.copyTo(empty, self.backdrop.walls, canvas)
                ids[self.backdrop.walls > 0] = 0
            first = len(objects) + 1 if actor else _PROP_ID
            for shape in painter.shapes:
                number = first + shape.slot if actor else _PROP_ID
                cv2.fillPoly(canvas, [shape.corners], shape.colour, shift=SHIFT)
                cv2.fillPoly(ids, [shape.corners], number, shift=SHIFT)
            glows += [(glow, first) for glow in painter.glows]
            if actor:
                slots = range(len(_SLOT_CLASSES[actor.kind]))
                objects += [(actor, slot, [shape for shape in painter.shapes if shape.slot == slot]) for slot in slots]
        truth = [self._truth(ids, number, *entry) for number, entry in enumerate(objects, start=1)]
        image = develop(canvas, ids, self.backdrop, light, glows, rng)
        return image, [entry for entry in truth if entry is not None]

    def _depth(self, painter: Painter) -> float:
        """Metres ahead of the camera; what is on the cross street lies beyond everything on the street itself."""
        depth = float(self.camera.to_camera(painter.world(np.zeros(3)))[2])
        return depth + (_BEYOND_M if painter.y > self.plan.end_m - 9.2 else 0.0)

    def _lit_backdrop(self, painters: list[Painter], light: Light) -> Pixels:
        """Ground and buildings with the shadows that lie on the ground."""
        full = (self.camera.width * SUPERSAMPLE, self.camera.height * SUPERSAMPLE)
        sun, contact = (np.zeros(full[::-1], np.uint8) for _ in range(2))
        for painter in painters:
            for caster in painter.shadow_casters:
                outline = ground_shadow(self.camera, light, caster)
                if outline is not None:
                    cv2.fillPoly(sun, [outline], 255, shift=SHIFT)
                below = ground_shadow(self.camera, Light((0, 0, 1), 0), caster)
                if below is not None and caster[:, 2].min() < 0.4:
                    cv2.fillPoly(contact, [below], 255, shift=SHIFT)
        small = (self.camera.width, self.camera.height)
        sun, contact = (cv2.resize(mask, small, interpolation=cv2.INTER_AREA) for mask in (sun, contact))
        sun = cv2.max(cv2.min(cv2.GaussianBlur(sun, (3, 3), 0), self.backdrop.ground), self.backdrop.building_shadow)
        contact = cv2.min(cv2.GaussianBlur(contact, (7, 7), 0), self.backdrop.ground)
        dark = cv2.addWeighted(sun, 0.48 * light.direct, contact, 0.34, 0)
        factor = cv2.resize(cv2.subtract(np.full_like(dark, 255), dark), full, interpolation=cv2.INTER_LINEAR)
        return cv2.multiply(self.backdrop.canvas, cv2.cvtColor(factor, cv2.COLOR_GRAY2RGB), scale=1 / 255)

    def _truth(
        self, ids: NDArray[np.uint16], number: int, actor: Actor, slot: int, shapes: list[Shape]
    ) -> Truth | None:
        if not shapes:
            return None
        height, width = ids.shape
        corners = np.vstack([shape.corners for shape in shapes]) / (1 << SHIFT)
        low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, [-width, -height], [2 * width, 2 * height])
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 3, [-width, -height], [2 * width, 2 * height])
        if (high <= 0).any() or (low >= [width, height]).any():
            return None
        (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, [width, height])
        seen = ids[y0:y1, x0:x1] == number
        if not seen.any():
            return None
        whole = np.zeros((high - low)[::-1], np.uint8)
        offset = (low << SHIFT).astype(np.int32)
        for shape in shapes:
            cv2.fillPoly(whole, [shape.corners - offset], 1, shift=SHIFT)
        xyxy = _box(seen, x0, y0)
        covered = _box(whole > 0, int(low[0]), int(low[1]))
        limits = (self.camera.width, self.camera.height) * 2
        full_xyxy = tuple(min(max(value, 0.0), float(limit)) for value, limit in zip(covered, limits, strict=True))
        visible = float(np.count_nonzero(seen)) / max(int(np.count_nonzero(whole)), 1)
        class_id = _SLOT_CLASSES[actor.kind][slot]
        return Truth(actor.first_object_id + slot, class_id, xyxy, full_xyxy, visible, is_ignored(xyxy, visible))


def _box(mask: NDArray[np.bool_], x: int, y: int) -> tuple[float, float, float, float]:
    """Outer edges of the set canvas pixels of a part at (x, y), in source pixels."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    edges = (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
    return tuple(float(edge) / SUPERSAMPLE for edge in edges)
