# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The parts of a place: ground, roads, buildings, trees, slots for vehicles.

Positions are in metres, x to the right and y down from the top left corner of the
image; angles are in radians, from x towards y.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ..polygons import clip_polygon
from .scene import BARE, IMPERVIOUS, LOW_VEGETATION, RGB, WATER, Floats

_T = TypeVar('_T')
Coordinate = float | Floats


class Material(NamedTuple):
    """How a kind of ground looks.

    Display colours in a lush and in a dry season, relative strength of its texture
    at three scales, and its roughness in metres.
    """

    cover: int
    lush: RGB
    dry: RGB
    patchy: float
    fine: float
    grain: float
    relief: float


MATERIALS = {
    'grass': Material(
        LOW_VEGETATION, (88, 118, 62), (160, 148, 102), 0.13, 0.07, 0.06, 0.05
    ),
    'meadow': Material(
        LOW_VEGETATION, (102, 124, 66), (166, 150, 106), 0.24, 0.18, 0.10, 0.16
    ),
    'scrub': Material(
        LOW_VEGETATION, (104, 108, 72), (152, 134, 100), 0.28, 0.30, 0.14, 0.35
    ),
    'crop': Material(
        LOW_VEGETATION, (76, 116, 52), (188, 168, 108), 0.12, 0.08, 0.08, 0.10
    ),
    'soil': Material(
        LOW_VEGETATION, (128, 104, 80), (146, 122, 96), 0.18, 0.09, 0.08, 0.12
    ),
    'litter': Material(
        LOW_VEGETATION, (80, 84, 54), (122, 108, 82), 0.25, 0.25, 0.12, 0.2
    ),
    'asphalt': Material(
        IMPERVIOUS, (99, 98, 96), (104, 102, 99), 0.10, 0.05, 0.05, 0.01
    ),
    'concrete': Material(
        IMPERVIOUS, (166, 163, 156), (170, 165, 156), 0.09, 0.06, 0.05, 0.01
    ),
    'planks': Material(
        IMPERVIOUS, (158, 148, 134), (164, 154, 138), 0.10, 0.12, 0.10, 0.02
    ),
    'gravel': Material(BARE, (150, 142, 130), (156, 146, 132), 0.11, 0.10, 0.14, 0.04),
    'sand': Material(BARE, (196, 180, 146), (204, 186, 150), 0.12, 0.08, 0.06, 0.08),
    'bare': Material(BARE, (160, 130, 100), (168, 138, 108), 0.22, 0.20, 0.12, 0.25),
    'water': Material(WATER, (50, 70, 72), (60, 74, 72), 0.10, 0.06, 0.03, 0.03),
    'pool': Material(WATER, (70, 150, 170), (70, 150, 170), 0.05, 0.05, 0.02, 0.01),
}


@dataclass(frozen=True)
class Ground:
    """A polygon of one material; ``outline`` (N, 2) in metres, None: everywhere."""

    outline: Floats | None
    material: str
    tone: float = 0.0  # brightness and season of this patch against others, -1..1
    angle: float = 0.0  # of its rows
    spacing: float = 0.0  # of its rows in metres, 0: none
    ragged: float = 0.0  # how far its edge wanders, in metres
    height: float = 0.0  # above the ground around it, in metres


@dataclass(frozen=True)
class Strip:
    """A road, track or river along ``path`` (N, 2), in metres."""

    path: Floats
    width: float
    material: str
    lanes: int = 0  # 0: no marks
    edge_lines: bool = False
    verge: str | None = None  # material of the pavement or shoulder
    verge_width: float = 0.0
    wander: float = 0.0  # how far its banks wander, in metres
    height: float = 0.0  # of a bridge deck, in metres


@dataclass(frozen=True)
class Stalls:
    """Painted lines of one row of parking stalls across its local u axis."""

    x: float
    y: float
    length: float
    width: float
    angle: float
    pitch: float


@dataclass(frozen=True)
class Building:
    """A rectangular (or, for tanks, round) building; angles in radians."""

    x: float
    y: float
    length: float
    width: float
    angle: float
    eaves: float
    roof: str  # flat, gable, hip, shed, barrel, tank, box
    colour: RGB
    detail: int  # seed of its roof furniture


@dataclass(frozen=True)
class Trees:
    """Trees by their crowns; every array is (N,)."""

    x: Floats
    y: Floats
    radius: Floats
    conifer: NDArray[np.bool_]
    tint: Floats  # 0..1, drives brightness and autumn colour


@dataclass(frozen=True)
class Mover:
    """A slot for a vehicle or a ship; ``occupancy`` is its chance to be taken."""

    x: float
    y: float
    angle: float
    category: str
    occupancy: float
    length: float
    width: float
    moving: bool = False


class Plan:
    """A place: its ground colours and everything that stands on it."""

    def __init__(self, scene_class: str, extent: float, seed: int, rng: Generator):
        self.scene_class = scene_class
        self.extent = extent  # side of the place in metres
        self.seed = seed  # of the textures, shared by all looks
        self.soil = pick(
            rng, [(128, 104, 80), (150, 108, 78), (112, 98, 82), (166, 146, 116)]
        )
        self.water = pick(
            rng,
            [
                (38, 58, 66),
                (60, 84, 70),
                (112, 104, 80),
                (40, 88, 88),
                (70, 84, 92),
                (96, 110, 92),
            ],
        )
        self.paving = float(rng.uniform(0.72, 1.5))
        self.lawn = float(rng.uniform(-0.5, 0.5))
        self.evergreen = float(rng.choice([0.05, 0.25, 0.6, 0.95]))
        self.grounds: list[Ground] = []
        self.strips: list[Strip] = []
        self.patches: list[Ground | Stalls] = []  # drawn over the strips
        self.buildings: list[Building] = []
        self.trees: list[Trees] = []
        self.movers: list[Mover] = []

    def copy(self) -> 'Plan':
        """A copy whose lists can be edited."""
        other = object.__new__(Plan)
        other.__dict__ = {
            key: list(value) if isinstance(value, list) else value
            for key, value in self.__dict__.items()
        }
        return other

    def plant(
        self,
        xy: Floats,
        rng: Generator,
        radius: tuple[float, float] = (1.6, 3.6),
        evergreen: float | None = None,
    ) -> None:
        """Add trees at ``xy`` (N, 2)."""
        count = len(xy)
        share = self.evergreen if evergreen is None else evergreen
        self.trees.append(
            Trees(
                xy[:, 0].astype(np.float32),
                xy[:, 1].astype(np.float32),
                rng.uniform(*radius, count).astype(np.float32),
                rng.random(count) < share,
                rng.random(count).astype(np.float32),
            )
        )

    def park(
        self,
        xy: Sequence[float] | Floats,
        angle: float,
        rng: Generator,
        occupancy: float,
        lorry: float = 0.0,
        moving: bool = False,
    ) -> None:
        """Add a slot for a road vehicle, if it is in sight."""
        x, y = float(xy[0]), float(xy[1])
        if not (0 < x < self.extent and 0 < y < self.extent):
            return
        if rng.random() < lorry:
            length, width, kind = rng.uniform(8, 17), 2.6, 'large-vehicle'
        else:
            length, width, kind = rng.uniform(4.0, 5.2), 1.95, 'small-vehicle'
        self.movers.append(
            Mover(x, y, angle, kind, occupancy, float(length), width, moving)
        )


@dataclass(frozen=True)
class Frame:
    """Local axes: u along ``angle`` through the middle of the place, v to its right.

    A sine of amplitude ``bend`` metres bends the u axis.
    """

    middle: float
    angle: float
    bend: float = 0.0
    wavelength: float = 1.0
    phase: float = 0.0

    def at(self, u: Coordinate, v: Coordinate) -> Floats:
        """World position of local ones, (..., 2)."""
        if isinstance(u, float) and isinstance(v, float):  # thousands of these a place
            v += self.bend * math.sin(2 * math.pi * u / self.wavelength + self.phase)
            cos, sin = math.cos(self.angle), math.sin(self.angle)
            x, y = u * cos - v * sin, u * sin + v * cos
            return np.array((x + self.middle, y + self.middle), np.float32)
        us, vs = np.broadcast_arrays(np.asarray(u), np.asarray(v))
        vs = vs + self.bend * np.sin(2 * np.pi * us / self.wavelength + self.phase)
        c, s = np.cos(self.angle), np.sin(self.angle)
        xy = np.stack([us * c - vs * s, us * s + vs * c], -1)
        return (xy + self.middle).astype(np.float32)

    def heading(self, u: float = 0.0) -> float:
        """Angle of the bent u axis at u."""
        turn = 2 * math.pi / self.wavelength
        slope = self.bend * turn * math.cos(turn * u + self.phase)
        return self.angle + math.atan(slope)

    def rectangle(self, u: float, v: float, length: float, width: float) -> Floats:
        """Corners of a rectangle around (u, v), (4, 2)."""
        x, y = self.at(u, v)
        return rectangle_corners(float(x), float(y), length, width, self.heading(u))

    def line(self, v: float, reach: float) -> Floats:
        """The parallel at v from u = -reach to reach, (N, 2)."""
        return self.at(np.linspace(-reach, reach, 41, dtype=np.float32), v)

    def cross_line(self, u: float, reach: float) -> Floats:
        """The line across at u, (2, 2)."""
        return self.at(u, np.array([-reach, reach], np.float32))


CONTAINER_COLOURS: tuple[RGB, ...] = (
    (150, 70, 50),
    (60, 90, 130),
    (190, 190, 185),
    (70, 110, 80),
    (180, 130, 60),
    (110, 60, 60),
)


def pick(rng: Generator, options: Sequence[_T]) -> _T:
    """One of ``options``, each equally likely."""
    return options[int(rng.integers(len(options)))]


def rectangle_corners(
    x: float, y: float, length: float, width: float, angle: float
) -> Floats:
    """Corners of a rotated rectangle, front left first and clockwise, (4, 2)."""
    c, s = math.cos(angle) / 2, math.sin(angle) / 2
    ux, uy, vx, vy = length * c, length * s, -width * s, width * c
    return np.array(
        (
            (x + ux - vx, y + uy - vy),
            (x + ux + vx, y + uy + vy),
            (x - ux + vx, y - uy + vy),
            (x - ux - vx, y - uy - vy),
        ),
        np.float32,
    )


def blob(x: float, y: float, radius: float, rng: Generator) -> Floats:
    """A smooth irregular outline, (48, 2)."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    r = np.ones_like(turn)
    for order in range(1, 5):
        r += rng.uniform(0, 0.24) / order * np.cos(order * turn + rng.uniform(0, 6.3))
    stretch = rng.uniform(0.6, 1.0)
    angle = rng.uniform(0, np.pi)
    u, v = radius * r * np.cos(turn), stretch * radius * r * np.sin(turn)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([x + u * c - v * s, y + u * s + v * c], -1).astype(np.float32)


def spaced(low: float, high: float, step: float) -> list[float]:
    """Positions from low up to (not including) high."""
    positions: list[float] = np.arange(low, high, step).tolist()
    return positions


def split_parcels(polygon: Floats, target: float, rng: Generator) -> list[Floats]:
    """Split a convex polygon until its parcels are about ``target`` metres long.

    Each cut runs across the longest edge, slightly askew.
    """
    edges = np.roll(polygon, -1, 0) - polygon
    lengths = np.linalg.norm(edges, axis=1)
    longest = int(lengths.argmax())
    if lengths[longest] < target * rng.uniform(1.0, 1.7) or len(polygon) > 8:
        return [polygon]
    point = polygon[longest] + edges[longest] * rng.uniform(0.35, 0.65)
    tilt = rng.normal(0, 0.07)
    along = edges[longest] / lengths[longest]
    normal = np.array(
        [
            along[0] * np.cos(tilt) - along[1] * np.sin(tilt),
            along[0] * np.sin(tilt) + along[1] * np.cos(tilt),
        ],
        np.float32,
    )
    halves = (
        clip_polygon(polygon, point, normal),
        clip_polygon(polygon, point, -normal),
    )
    return [
        parcel
        for half in halves
        if len(half) >= 3
        for parcel in split_parcels(half, target, rng)
    ]


def scatter(low: float, high: float, spacing: float, rng: Generator) -> Floats:
    """Jittered grid over the square from low to high, (N, 2) in metres."""
    steps = np.arange(low, high, spacing, dtype=np.float32)
    x, y = np.meshgrid(steps, steps)
    x[::2] += spacing / 2
    xy = np.stack([x.ravel(), y.ravel()], -1)
    return (xy + rng.normal(0, 0.28 * spacing, xy.shape)).astype(np.float32)


def inside_polygon(outline: Floats, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Whether points lie in a polygon (even-odd rule), (N,)."""
    inside = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
        spans = (y0 > y) != (y1 > y)
        with np.errstate(divide='ignore', invalid='ignore'):
            inside ^= spans & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside
