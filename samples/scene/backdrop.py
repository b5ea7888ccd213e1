# ruff: noqa: RUF005 - vectors are added here, not joined
"""What never moves in a scene: ground, buildings, sky, and the light that lamps and windows give at night."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .drawing import SUPERSAMPLE, Camera, Floats, Light, Painter, ground_shadow
from .props import Prop
from .street import (
    GROUND_PX_PER_M,
    GROUND_X_M,
    GROUND_Y_M,
    Building,
    Pixels,
    StreetPlan,
    facade_texture,
    ground_texture,
)

_SKY = (  # dusk, colour at the top, colour at the horizon
    (0.0, (118, 158, 208), (206, 222, 236)),
    (0.45, (112, 140, 190), (240, 208, 166)),
    (0.7, (84, 90, 140), (232, 150, 104)),
    (1.0, (34, 40, 72), (120, 86, 104)),
)


class Backdrop:
    """The fixed part of a scene for one camera and one direction of the sun."""

    def __init__(self, plan: StreetPlan, camera: Camera, light: Light, lamps: list[Prop]) -> None:
        self.plan, self.camera = plan, camera
        height, width = camera.height * SUPERSAMPLE, camera.width * SUPERSAMPLE
        self.canvas: Pixels = np.zeros((height, width, 3), np.uint8)
        """Ground and buildings in plain daylight, ``[2H, 2W, 3]``."""
        self.windows: Pixels = np.zeros_like(self.canvas)
        """Light from windows at night, ``[2H, 2W, 3]``; afterwards ``[H, W, 3]``."""
        self.sky = np.full((height, width), 255, np.uint8)
        self.ground = np.zeros((height, width), np.uint8)
        self.walls = np.zeros((height, width), np.uint8)
        """Where buildings along the street hide the cross street behind them, ``[2H, 2W]``, 0 or 255."""
        self._draw_ground()
        order = sorted(plan.buildings, key=lambda b: -1e3 if b.side == 0 else -b.start_m)
        for building in order:
            self._draw_building(building, light)
            if building.side == 0:
                self.walls[:] = 0
        small = (camera.width, camera.height)
        self.windows = cv2.resize(self.windows, small, interpolation=cv2.INTER_AREA)
        self.sky = cv2.resize(self.sky, small, interpolation=cv2.INTER_AREA)
        self.ground = cv2.resize(self.ground, small, interpolation=cv2.INTER_AREA)
        self.building_shadow = self._building_shadow(light)
        """How much building shadow lies on the ground, ``[H, W]``, 0-255."""
        self.pools = self._lamp_pools(lamps)
        """Light of street lamps on the ground, ``[H, W]`` float32."""
        self._clouds = self._cloud_field()

    def _draw_ground(self) -> None:
        height, width = self.canvas.shape[:2]
        to_texture = np.array([
            [GROUND_PX_PER_M, 0, -GROUND_X_M[0] * GROUND_PX_PER_M],
            [0, GROUND_PX_PER_M, -GROUND_Y_M[0] * GROUND_PX_PER_M],
            [0, 0, 1.0],
        ])  # fmt: skip
        homography = to_texture @ self.camera.ground_homography()
        warped = cv2.warpPerspective(
            ground_texture(self.plan), homography, (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        first = max(0, int(np.ceil((self.camera.horizon_px + 1.5) * SUPERSAMPLE)))
        self.canvas[first:] = warped[first:]
        self.ground[first:] = 255
        self.sky[first:] = 0

    def _draw_building(self, building: Building, light: Light) -> None:
        plan, stop = self.plan, building.start_m + building.length_m
        if building.side == 0:
            base = np.array([[building.start_m, plan.end_m, 0], [stop, plan.end_m, 0.0]])
            normal = np.array([0, -1.0, 0])
        else:
            x = building.side * plan.facade_m(building.side)
            base = np.array([[x, building.start_m, 0], [x, stop, 0.0]])
            normal = np.array([-building.side, 0, 0.0])
            self._draw_wall(building, light)
        facade, lit = facade_texture(building.length_m, building.height_m, building.seed)
        gain = light.shade((1, 1, 1), normal)[0]
        self._warp_face(base, building.height_m, cv2.convertScaleAbs(facade, alpha=gain), lit)

    def _draw_wall(self, building: Building, light: Light) -> None:
        """The blank wall at the near end of a building, seen where its neighbour is lower."""
        x = building.side * self.plan.facade_m(building.side)
        base = np.array([[x, building.start_m, 0], [x + building.side * 9, building.start_m, 0.0]])
        tone = np.random.default_rng(building.seed).uniform(120, 180)
        gain = light.shade((1, 1, 1), np.array([0, -1.0, 0]))[0]
        texture = np.full((8, 8, 3), min(255, tone * gain), np.uint8)
        self._warp_face(base, building.height_m, texture, np.zeros_like(texture))

    def _warp_face(self, base: Floats, height_m: float, texture: Pixels, lit: Pixels) -> None:
        """Draw a texture on the upright rectangle over two ground points ``[2, 3]``."""
        start, stop = base
        fractions = np.linspace(0, 1, 41)
        along = start + fractions[:, None] * (stop - start)
        depth = np.minimum(self.camera.to_camera(along)[:, 2], self.camera.to_camera(along + [0, 0, height_m])[:, 2])
        visible = fractions[depth > 0.6]
        if len(visible) < 2:
            return
        low, high = float(visible.min()), float(visible.max())
        columns = texture.shape[1]
        texture = texture[:, int(low * columns) : max(int(high * columns), int(low * columns) + 2)]
        lit = lit[:, int(low * columns) : int(low * columns) + texture.shape[1]]
        left, right = start + low * (stop - start), start + high * (stop - start)
        up = np.array([0, 0, height_m])
        quad = self.camera.to_pixels(self.camera.to_camera(np.stack([left + up, right + up, right, left])))
        self._paste(quad * SUPERSAMPLE, texture, lit)

    def _paste(self, quad: Floats, texture: Pixels, lit: Pixels) -> None:
        """Warp a texture and its light onto a canvas quad ``[4, 2]``, touching only the pixels around it."""
        height, width = self.canvas.shape[:2]
        low = np.clip(np.floor(quad.min(axis=0)).astype(int), 0, [width, height])
        high = np.clip(np.ceil(quad.max(axis=0)).astype(int) + 1, 0, [width, height])
        if (high <= low).any():
            return
        rows, columns = texture.shape[:2]
        corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        homography = cv2.getPerspectiveTransform(corners, (quad - low).astype(np.float32))
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        inside = np.zeros(size[::-1], np.uint8)
        cv2.fillConvexPoly(inside, np.clip(quad - low, -30000, 30000).astype(np.int32), 255)
        part = np.s_[low[1] : high[1], low[0] : high[0]]
        for layer, source in ((self.canvas, texture), (self.windows, lit)):
            warped = cv2.warpPerspective(source, homography, size, borderMode=cv2.BORDER_REPLICATE)
            cv2.copyTo(warped, inside, layer[part])
        for layer in (self.sky, self.ground):
            layer[part][inside > 0] = 0
        self.walls[part][inside > 0] = 255

    def _building_shadow(self, light: Light) -> Pixels:
        mask = np.zeros(self.canvas.shape[:2], np.uint8)
        for building in self.plan.buildings:
            if building.side == 0:
                continue
            near = building.side * self.plan.facade_m(building.side)
            stop = building.start_m + building.length_m
            corners = np.array([
                [x, y, z] for x in (near, near + 9 * building.side) for y in (building.start_m, stop)
                for z in (0.0, building.height_m)
            ])  # fmt: skip
            outline = ground_shadow(self.camera, light, corners)
            if outline is not None:
                cv2.fillPoly(mask, [outline], 255, shift=3)
        small = cv2.resize(mask, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
        return cv2.min(cv2.GaussianBlur(small, (5, 5), 0), self.ground)

    def _lamp_pools(self, lamps: list[Prop]) -> NDArray[np.float32]:
        pools = np.zeros((self.camera.height, self.camera.width), np.float32)
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        for lamp in lamps:
            centre = np.array([lamp.x + 1.3 * np.cos(lamp.heading), lamp.y, 0])
            for radius, gain in ((4.8, 0.25), (3.4, 0.25), (2.2, 0.3), (1.1, 0.2)):
                ring = centre + radius * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
                points = self.camera.to_camera(ring)
                if points[:, 2].min() > 0.5:
                    layer = np.zeros_like(pools)
                    cv2.fillPoly(layer, [np.rint(self.camera.to_pixels(points)).astype(np.int32)], gain)
                    pools += layer
        return cv2.GaussianBlur(pools, (0, 0), 7)

    def _cloud_field(self) -> NDArray[np.float32]:
        rng = np.random.default_rng(self.plan.seed + 1)
        field = np.zeros((self.camera.height, self.camera.width), np.float32)
        for cells, gain in ((4, 1.0), (9, 0.6), (20, 0.35)):
            small = rng.standard_normal((cells + 1, cells), dtype=np.float32)
            field += gain * cv2.resize(small, (self.camera.width, self.camera.height), interpolation=cv2.INTER_CUBIC)
        return np.clip(field - 0.2, 0, 1.4)[..., None]

    def sky_colours(self, dusk: float, overcast: float) -> NDArray[np.float32]:
        """The sky ``[H, W, 3]``, 0-255."""
        stops = [stop for stop, _, _ in _SKY]
        top, low = (
            np.array([np.interp(dusk, stops, [colours[i][c] for colours in _SKY]) for c in range(3)], np.float32)
            for i in (1, 2)
        )
        grey = np.float32(175 - 110 * dusk)
        top, low = (colour + overcast * 0.8 * (grey - colour) for colour in (top, low))
        span = max(self.camera.horizon_px, 20.0)
        blend = np.clip(np.arange(self.camera.height, dtype=np.float32) / span, 0, 1)[:, None, None] ** 1.3
        clouds = self._clouds * (1 - blend) * 0.35
        sky = top * (1 - blend) + low * blend
        return sky + clouds * (0.5 * low + 0.5 * (235 - 130 * dusk) - sky)

    def in_shadow(self, painter: Painter) -> bool:
        """Whether a building's shadow lies where a painter stands."""
        point = self.camera.to_camera(painter.world(np.zeros(3)))
        if point[2] < 1:
            return False
        x, y = np.rint(self.camera.to_pixels(point)).astype(int)
        if not (0 <= x < self.camera.width and 0 <= y < self.camera.height):
            return False
        return bool(self.building_shadow[y, x] > 127)
