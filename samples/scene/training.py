"""Random scenes to train on: streets, cameras, hours and traffic that share nothing with the clip but the renderer."""

from __future__ import annotations

import multiprocessing
from functools import partial
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from .drawing import Camera, Light
from .props import random_props
from .street import Pixels, StreetPlan
from .world import Actor, Scene, Truth

FRAMES_PER_SCENE = 6
MAX_OBJECTS = 64
_NEAREST_M = {"car": 6.0, "truck": 11.0}
"""Nearer than this a vehicle would fill the frame."""


def random_camera(plan: StreetPlan, rng: np.random.Generator) -> Camera:
    """A camera over the street or a pavement, looking along the street or across it."""
    x = rng.uniform(-plan.facade_m(-1) + 0.8, plan.facade_m(1) - 0.8)
    turn = rng.uniform(-12, 38) if rng.random() < 0.65 else rng.uniform(30, 72)
    focal = rng.uniform(420, 720)
    horizon = rng.uniform(10, 130)
    return Camera(
        position=(x, 0.0, rng.uniform(3.0, 9.0)),
        yaw=float(np.radians(-np.sign(x) * turn)),
        pitch=float(np.arctan((180 - horizon) / focal)),
        focal_px=focal,
    )


def random_sun(rng: np.random.Generator) -> tuple[float, float, float]:
    """A unit vector towards the sun, 15 to 65 degrees high."""
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(15, 65))
    flat = np.cos(height)
    return (float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(height)))


class _Crowd:
    """Collects actors that the camera sees."""

    def __init__(self, plan: StreetPlan, camera: Camera, rng: np.random.Generator) -> None:
        self.plan, self.camera, self.rng = plan, camera, rng
        self.actors: list[Actor] = []
        self._numbers = count(0, 2)

    def add(self, kind: str, x: float, y: float, heading: float, stride: float = 1.0) -> Actor | None:
        point = self.camera.to_camera(np.array([x, y, 0.8]))
        if not _NEAREST_M.get(kind, 3.5) < point[2] < 65:
            return None
        column, row = self.camera.to_pixels(point)
        margin = 60 + 1400 / point[2]
        if not (-margin < column < self.camera.width + margin and -30 < row < self.camera.height + margin):
            return None
        phase = float(self.rng.uniform(0, 2 * np.pi))
        seed = int(self.rng.integers(1 << 31))
        actor = Actor(kind, x, y, heading, seed, next(self._numbers), phase, stride)
        self.actors.append(actor)
        return actor

    def fill_lane(self, x: float, direction: int, gap_m: float, truck_share: float) -> None:
        """Vehicles one after another in a lane."""
        y = self.rng.uniform(-8, 12)
        while y < self.plan.end_m - 10:
            kind = "truck" if self.rng.random() < truck_share else "car"
            heading = direction * np.pi / 2 + self.rng.normal(0, 0.03)
            actor = self.add(kind, x + self.rng.normal(0, 0.15), y, heading)
            y += (actor.length_m if actor else 8.0) / 2 + 4.5 + self.rng.exponential(gap_m)

    def fill_parking(self, side: int) -> None:
        y = self.rng.uniform(-6, 4)
        while y < self.plan.end_m - 12:
            kind = "truck" if self.rng.random() < 0.15 else "car"
            heading = np.pi / 2 * (side if self.rng.random() < 0.85 else -side)
            if self.rng.random() < 0.65:
                self.add(kind, self.plan.parking_x(side), y, heading)
            y += 9.0 if kind == "truck" else 6.2

    def fill_pavement(self, side: int) -> None:
        low, high = self.plan.kerb_m(side) + 0.4, self.plan.facade_m(side) - 0.5
        for _ in range(self.rng.integers(1, 9)):
            x, y = side * self.rng.uniform(low, high), self.rng.uniform(3, 48)
            heading = self.rng.choice([-1, 1]) * np.pi / 2 + self.rng.normal(0, 0.25)
            stride = 0.0 if self.rng.random() < 0.2 else self.rng.uniform(0.6, 1.1)
            if stride == 0.0:
                heading = self.rng.uniform(0, 2 * np.pi)
            for member in range(self.rng.choice([1, 1, 1, 2, 3])):
                self.add("person", x + self.rng.normal(0, 0.1), y + 0.75 * member, heading, stride)
        for _ in range(self.rng.integers(1, 5)):
            x = side * self.rng.choice([low + 0.3, high - 0.2, self.rng.uniform(low, high)])
            y, heading = self.rng.uniform(4, 32), self.rng.uniform(0, 2 * np.pi)
            for member in range(self.rng.choice([1, 1, 2, 4])):
                self.add("bicycle", x, y + 0.8 * member, heading + self.rng.normal(0, 0.05))

    def fill_crossings(self) -> None:
        half = self.plan.road_half_m + 1
        for crossing in self.plan.crossings_m:
            for _ in range(self.rng.integers(0, 6)):
                y = crossing + self.rng.uniform(-1.4, 1.4)
                heading = self.rng.choice([0.0, np.pi]) + self.rng.normal(0, 0.15)
                kind = "cyclist" if self.rng.random() < 0.15 else "person"
                self.add(kind, self.rng.uniform(-half, half), y, heading, self.rng.uniform(0.6, 1.1))
        for _ in range(self.rng.integers(0, 4)):
            x, y = self.rng.uniform(-half, half), self.rng.uniform(4, 36)
            kind = ("person", "cyclist", "car", "truck")[self.rng.choice(4, p=[0.4, 0.3, 0.15, 0.15])]
            if all(np.hypot(x - other.x, y - other.y) > 4.5 for other in self.actors):
                self.add(kind, x, y, self.rng.uniform(0, 2 * np.pi))


def random_actors(plan: StreetPlan, camera: Camera, rng: np.random.Generator) -> list[Actor]:
    """Traffic of one moment, busy or quiet."""
    crowd = _Crowd(plan, camera, rng)
    gap = rng.choice([7.0, 14.0, 30.0])
    truck_share = rng.uniform(0.1, 0.55)
    for direction in (-1, 1):
        for lane in range(plan.lanes):
            crowd.fill_lane(plan.lane_x(direction, lane), direction, gap, truck_share)
        for y in rng.uniform(3, 45, rng.integers(1, 7)):
            heading = direction * np.pi / 2 + rng.normal(0, 0.12)
            crowd.add("cyclist", plan.bike_x(direction) + rng.normal(0, 0.2), float(y), heading)
        if plan.parking[0 if direction < 0 else 1]:
            crowd.fill_parking(direction)
        crowd.fill_pavement(direction)
        for x in rng.uniform(-25, 25, rng.integers(0, 3)):
            kind = "truck" if rng.random() < 0.4 else "car"
            crowd.add(kind, float(x), plan.end_m - 5.5 - 1.5 * direction, 0.0 if direction > 0 else np.pi)
    crowd.fill_crossings()
    return crowd.actors


def degrade(image: Pixels, rng: np.random.Generator) -> Pixels:
    """What a video codec does to a frame, roughly: soft detail, blocks, thinned-out colour."""
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    if rng.random() < 0.9:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 92))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def scene_frames(seed: int, size: tuple[int, int]) -> tuple[Pixels, NDArray[np.float32]]:
    """One random scene: frames ``[F, h, w, 3]`` RGB shrunk to (w, h), objects ``[F, MAX_OBJECTS, 6]``.

    An object is xyxy in pixels of the shrunk frame, class and 1 if ignored; class -1 fills the rest.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng([20260, seed])
    plan = StreetPlan.random(rng)
    camera = random_camera(plan, rng)
    sun, overcast = random_sun(rng), float(rng.choice([0.0, 0.0, 0.4, 1.0]))
    scene = Scene(plan, camera, Light(sun, 0.0, overcast), random_props(plan, rng, first_m=3.0))
    frames = np.empty((FRAMES_PER_SCENE, size[1], size[0], 3), np.uint8)
    objects = np.full((FRAMES_PER_SCENE, MAX_OBJECTS, 6), -1, np.float32)
    for i in range(FRAMES_PER_SCENE):
        light = Light(sun, float(rng.uniform(0, 1)), overcast)
        image, truth = scene.render(random_actors(plan, camera, rng), light, rng)
        frames[i] = cv2.resize(degrade(image, rng), size, interpolation=cv2.INTER_LINEAR)
        rows = [_row(entry, size[0] / camera.width) for entry in truth[:MAX_OBJECTS]]
        objects[i, : len(rows)] = np.array(rows).reshape(-1, 6)
    return frames, objects


def _row(entry: Truth, scale: float) -> list[float]:
    return [*(value * scale for value in entry.xyxy), entry.class_id, float(entry.ignore)]


def render_training_set(
    scenes: int, size: tuple[int, int], workers: int, first_seed: int = 0
) -> tuple[Pixels, NDArray[np.float32]]:
    """Frames and objects of many scenes, one after another; see ``scene_frames``."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        parts = pool.map(partial(scene_frames, size=size), range(first_seed, first_seed + scenes), chunksize=4)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
