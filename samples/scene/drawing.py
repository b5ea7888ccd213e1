"""Camera, light and the painter that turns shapes in metres into filled polygons on a canvas."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]

SUPERSAMPLE = 2
"""Canvas pixels per source pixel, each way."""
SHIFT = 3
"""Fraction bits in the polygon corners handed to OpenCV."""
NEAR_M = 0.3
"""Nothing nearer than this to the camera plane is drawn."""
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for f in (np.cos, np.sin)], axis=1)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without roll or lens distortion."""

    position: tuple[float, float, float]
    """x, y, z in metres."""
    yaw: float
    """Radians from +y (along the street) towards +x."""
    pitch: float
    """Radians below the horizon."""
    focal_px: float
    """Focal length in source pixels."""
    width: int = 640
    height: int = 360

    @cached_property
    def axes(self) -> Floats:
        """Rows right, down, forward of the camera in world axes, ``[3, 3]``."""
        sin_yaw, cos_yaw = np.sin(self.yaw), np.cos(self.yaw)
        sin_pitch, cos_pitch = np.sin(self.pitch), np.cos(self.pitch)
        right = np.array([cos_yaw, -sin_yaw, 0.0])
        forward = np.array([sin_yaw * cos_pitch, cos_yaw * cos_pitch, -sin_pitch])
        return np.stack([right, np.cross(forward, right), forward])

    def to_camera(self, world: Floats) -> Floats:
        """Points ``[..., 3]`` from world axes to right, down, forward, in metres."""
        return (world - np.asarray(self.position)) @ self.axes.T

    def to_pixels(self, camera_points: Floats) -> Floats:
        """Camera points ``[..., 3]`` to source pixels ``[..., 2]``. They must lie in front of the camera."""
        centre = np.array([self.width / 2, self.height / 2])
        return centre + self.focal_px * camera_points[..., :2] / camera_points[..., 2:]

    def ground_homography(self) -> Floats:
        """``[3, 3]`` from homogeneous canvas pixels to homogeneous ground metres (x, y)."""
        intrinsics = np.array(
            [[self.focal_px, 0, self.width / 2], [0, self.focal_px, self.height / 2], [0, 0, 1.0]],
        )
        to_canvas = np.diag([SUPERSAMPLE, SUPERSAMPLE, 1.0])
        plane = np.stack([[1, 0, 0], [0, 1, 0], -np.asarray(self.position)], axis=1).astype(float)
        return np.linalg.inv(to_canvas @ intrinsics @ self.axes @ plane)

    @property
    def horizon_px(self) -> float:
        """Row of the horizon in source pixels."""
        return self.height / 2 - self.focal_px * float(np.tan(self.pitch))


@dataclass(frozen=True)
class Light:
    """What lights a frame."""

    sun: tuple[float, float, float]
    """Unit vector towards the sun."""
    dusk: float
    """0 is full day, 1 is late dusk."""
    overcast: float = 0.0
    """0 is a clear sky, 1 has no direct sun."""

    @property
    def direct(self) -> float:
        """Strength of direct sunlight, 0-1."""
        return (1 - self.overcast) * float(np.clip(1.15 - 1.5 * self.dusk, 0, 1))

    @property
    def lamps(self) -> float:
        """How far lamps, windows and headlights are on, 0-1."""
        return float(np.clip((self.dusk - 0.4) / 0.3, 0, 1))

    def shade(self, colour: Colour, normal: Floats | None = None, in_shadow: bool = False) -> Colour:
        """The colour of a surface with unit ``normal``; without one, of something round."""
        facing = 0.5 if normal is None else max(0.0, float(np.dot(normal, self.sun)))
        skyward = 0.5 if normal is None else 0.5 + 0.5 * float(normal[2])
        gain = 0.66 + 0.2 * skyward + 0.5 * (0 if in_shadow else facing * self.direct)
        return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


class Shape(NamedTuple):
    """A polygon ready to be filled."""

    corners: NDArray[np.int32]
    """``[K, 2]`` canvas pixels, with ``SHIFT`` fraction bits."""
    colour: Colour
    slot: int
    """Which of its actor's objects it belongs to."""


class Glow(NamedTuple):
    """A small light, drawn if the object it belongs to is what the canvas shows there."""

    centre: tuple[float, float]
    """Source pixels."""
    radius_px: float
    colour: Colour


def fixed_point(pixels: Floats) -> NDArray[np.int32]:
    """Source pixels to canvas corners with ``SHIFT`` fraction bits."""
    canvas = np.clip(pixels, -20000, 20000) * SUPERSAMPLE - 0.5
    return np.rint(canvas * (1 << SHIFT)).astype(np.int32)


def clip_near(points: Floats) -> Floats:
    """The part of a camera-space polygon ``[K, 3]`` that lies beyond the near plane."""
    if points[:, 2].min() >= NEAR_M:
        return points
    kept = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            kept.append(start + (end - start) * (NEAR_M - start[2]) / (end[2] - start[2]))
    return np.asarray(kept).reshape(-1, 3)


@dataclass
class Painter:
    """Collects one thing's shapes, back to front in the order they are added.

    Local axes: x forward, y left, z up, in metres from the thing's place on the ground.
    """

    camera: Camera
    light: Light
    x: float
    y: float
    heading: float = 0.0
    in_shadow: bool = False
    shapes: list[Shape] = field(default_factory=list)
    shadow_casters: list[Floats] = field(default_factory=list)
    """World points ``[K, 3]``, each set casting the shadow of its hull."""
    glows: list[Glow] = field(default_factory=list)

    def __post_init__(self) -> None:
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        self.local_axes = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        self._offset = np.array([self.x, self.y, 0.0])
        self.eye = (np.asarray(self.camera.position) - self._offset) @ self.local_axes.T
        """The camera in local axes."""

    def world(self, local: Floats) -> Floats:
        """Local points ``[..., 3]`` in world axes."""
        return local @ self.local_axes + self._offset

    def faces_camera(self, local: Floats, normal: Floats) -> bool:
        """Whether the flat face through ``local[0]`` with this local normal shows its front."""
        return float(np.dot(self.eye - local[0], normal)) > 0

    def poly(self, local: Floats, colour: Colour, slot: int = 0, normal: Floats | None = None) -> None:
        """A flat polygon ``[K, 3]``; lit by its local ``normal`` if there is one."""
        points = clip_near(self.camera.to_camera(self.world(np.asarray(local, dtype=float))))
        if len(points) >= 3:
            world_normal = None if normal is None else normal @ self.local_axes
            lit = self.light.shade(colour, world_normal, self.in_shadow)
            self.shapes.append(Shape(fixed_point(self.camera.to_pixels(points)), lit, slot))

    def hull(self, local: Floats, radii: Floats | list[float], colour: Colour, slot: int = 0) -> None:
        """The outline around balls at ``[K, 3]`` with ``[K]`` radii, with a lit upper side."""
        points = self.camera.to_camera(self.world(np.asarray(local, dtype=float)))
        if points[:, 2].min() < NEAR_M:
            return
        radii_px = self.camera.focal_px * np.asarray(radii) / points[:, 2]
        centres = self.camera.to_pixels(points)
        self._fill_hull(centres, radii_px, self.light.shade(colour, None, self.in_shadow), slot)
        if radii_px.max() > 2.0:
            gain = 1.1 + (0 if self.in_shadow else 0.16 * self.light.direct)
            sunward = self.camera.axes[:2] @ np.asarray(self.light.sun)
            lit = tuple(channel * gain for channel in self.light.shade(colour, None, self.in_shadow))
            self._fill_hull(centres + 0.35 * radii_px[:, None] * sunward, 0.6 * radii_px, lit, slot)

    def _fill_hull(self, centres: Floats, radii_px: Floats, colour: Colour, slot: int) -> None:
        rims = (centres[:, None] + radii_px[:, None, None] * _CIRCLE).reshape(-1, 2)
        corners = cv2.convexHull(rims.astype(np.float32))[:, 0]
        self.shapes.append(Shape(fixed_point(corners), colour, slot))

    def stroke(self, local: Floats, width_m: float, colour: Colour, slot: int = 0, closed: bool = False) -> None:
        """A bar of the given width along ``[K, 3]``."""
        points = self.camera.to_camera(self.world(np.asarray(local, dtype=float)))
        if points[:, 2].min() < NEAR_M:
            return
        pixels = self.camera.to_pixels(points)
        half = np.maximum(self.camera.focal_px * width_m / 2 / points[:, 2:], 0.3)
        along = np.roll(pixels, -1, axis=0) - np.roll(pixels, 1, axis=0)
        if not closed:
            along[0], along[-1] = pixels[1] - pixels[0], pixels[-1] - pixels[-2]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) * half
        lit = self.light.shade(colour, None, self.in_shadow)
        left, right = pixels + side, pixels - side
        if closed:
            left, right = np.vstack([left, left[:1]]), np.vstack([right, right[:1]])
        self.shapes.append(Shape(fixed_point(np.vstack([left, right[::-1]])), lit, slot))

    def shadow(self, local: Floats, radius_m: float = 0.0) -> None:
        """Let the hull of these points, widened by a radius, cast a shadow."""
        world = self.world(np.asarray(local, dtype=float))
        if radius_m:
            sun_x, sun_y, _ = self.light.sun
            across = np.array([-sun_y, sun_x, 0.0]) / max(np.hypot(sun_x, sun_y), 1e-6) * radius_m
            world = np.vstack([world + across, world - across])
        self.shadow_casters.append(world)

    def glow(self, local: Floats, radius_m: float, colour: Colour) -> None:
        """A light at a local point ``[3]``."""
        point = self.camera.to_camera(self.world(np.asarray(local, dtype=float)))
        if point[2] > 1.0:
            x, y = self.camera.to_pixels(point)
            self.glows.append(Glow((float(x), float(y)), self.camera.focal_px * radius_m / float(point[2]), colour))


def ground_shadow(camera: Camera, light: Light, world: Floats) -> NDArray[np.int32] | None:
    """Outline ``[K, 2]`` in fixed point, of the shadow that the hull of world points casts on the ground."""
    sun = np.asarray(light.sun)
    flat = world - world[:, 2:] / max(sun[2], 0.15) * sun
    flat[:, 2] = 0
    hull = cv2.convexHull(flat[:, :2].astype(np.float32))[:, 0]
    points = clip_near(camera.to_camera(np.hstack([hull, np.zeros((len(hull), 1))])))
    if len(points) < 3:
        return None
    return fixed_point(camera.to_pixels(points))
