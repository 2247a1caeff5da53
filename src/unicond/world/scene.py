"""Scenes as pure data: frozen dataclasses that say what is where, and how they are written as JSON.

Units are metres and degrees. Axes are right-handed with y up and the ground at y = 0. A yaw turns
about y: it takes the local z axis ("forward") to `(sin yaw, 0, cos yaw)`. A person's left is the
local +x.
"""

import dataclasses
import json
import typing
from dataclasses import dataclass

from unicond.world import vocabulary as words
from unicond.world.vocabulary import check_word

Vec3 = tuple[float, float, float]

FAR_M = 40.0
"""Ground beyond this camera-z distance has dissolved into the haze and counts as sky."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without roll; `fov` (degrees) spans the shorter side of the picture."""

    position: Vec3
    target: Vec3
    fov: float

    def __post_init__(self) -> None:
        if not 5.0 <= self.fov <= 120.0:
            raise ValueError(f"fov {self.fov} is out of range; give 5 to 120 degrees")
        flat = (self.position[0] - self.target[0]) ** 2 + (self.position[2] - self.target[2]) ** 2
        if flat < 1e-8:
            raise ValueError("the camera looks straight up or down; move position or target aside")


@dataclass(frozen=True)
class Place:
    """Ground, sky and light; `sun_yaw` and `sun_height` (degrees) say where the light comes from.

    `offset` shifts the ground's pattern and the clouds (metres), `turn` turns it (degrees).
    """

    ground: str
    sky: str
    sun_yaw: float
    sun_height: float
    offset: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0

    def __post_init__(self) -> None:
        check_word(self.ground, words.GROUNDS, "ground")
        check_word(self.sky, words.SKIES, "sky")
        if not 10.0 <= self.sun_height <= 90.0:
            raise ValueError(f"sun_height {self.sun_height} is out of range; give 10 to 90 degrees")


@dataclass(frozen=True)
class Solid:
    """One solid. `size` is its full extent along its own axes; `support` is what it rests on.

    The axis of cylinder, pill and cone is the local y; `tilt` turns it from upright (0) about the
    local x, before `yaw`. `support` is "ground" or an entity index (see `Scene`) as text.
    """

    shape: str
    color: str
    center: Vec3
    size: Vec3
    yaw: float = 0.0
    tilt: float = 0.0
    support: str = "ground"

    def __post_init__(self) -> None:
        check_word(self.shape, words.SHAPES, "shape")
        check_word(self.color, words.COLORS, "color")
        if min(self.size) <= 0.0:
            raise ValueError(f"size {self.size} must be positive along every axis")
        if self.shape == "pill" and self.size[1] < self.size[0]:
            raise ValueError(f"a pill of size {self.size} is shorter than it is wide; use a ball")


@dataclass(frozen=True)
class Identity:
    """Who a person is: four attributes, cut and build. The same in every pose, place and light."""

    skin: str
    hair: str
    shirt: str
    trousers: str
    hair_cut: str = "short"
    sleeves: str = "long"
    build: str = "average"

    def __post_init__(self) -> None:
        check_word(self.skin, words.SKINS, "skin")
        check_word(self.hair, words.HAIRS, "hair")
        check_word(self.shirt, words.SHIRTS, "shirt")
        check_word(self.trousers, words.TROUSERS, "trousers")
        check_word(self.hair_cut, words.HAIR_CUTS, "hair_cut")
        check_word(self.sleeves, words.SLEEVES, "sleeves")
        check_word(self.build, words.BUILDS, "build")


@dataclass(frozen=True)
class Pose:
    """Where the ends of a body are, in its own frame (metres at height 1.75 m).

    The origin is on the ground between the feet. Elbows and knees follow by two-bone inverse
    kinematics. `lean` bends the trunk forward and `sway` to its left, `twist` turns the shoulders,
    `head_yaw` and `head_pitch` the head (degrees).
    """

    name: str
    pelvis: Vec3
    left_hand: Vec3
    right_hand: Vec3
    left_foot: Vec3
    right_foot: Vec3
    lean: float = 0.0
    sway: float = 0.0
    twist: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0

    def __post_init__(self) -> None:
        check_word(self.name, words.POSES, "pose")


@dataclass(frozen=True)
class Person:
    """An identity in a pose at a place; `scale` 1.0 is 1.75 m tall."""

    identity: Identity
    pose: Pose
    position: Vec3
    yaw: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.3 <= self.scale <= 2.0:
            raise ValueError(f"scale {self.scale} is out of range; give 0.3 to 2.0")


@dataclass(frozen=True)
class Relation:
    """`subject` is in relation `name` to `target`; both are entity indices (see `Scene`)."""

    subject: int
    name: str
    target: int

    def __post_init__(self) -> None:
        check_word(self.name, words.RELATIONS, "relation")


@dataclass(frozen=True)
class Scene:
    """All there is to draw. Entity k is `solids[k]`, or `people[k - len(solids)]` beyond them.

    `relations` holds all that is true of the entities as this camera sees them.
    `seed` and `index` say which scene of which world it is; captions draw their wording from them.
    """

    seed: int
    index: int
    style: str
    camera: Camera
    place: Place
    solids: tuple[Solid, ...] = ()
    people: tuple[Person, ...] = ()
    relations: tuple[Relation, ...] = ()

    def __post_init__(self) -> None:
        check_word(self.style, words.STYLES, "style")
        for relation in self.relations:
            if not (0 <= relation.subject < len(self) and 0 <= relation.target < len(self)):
                raise ValueError(f"{relation} names an entity that is not there: {len(self)} are")

    def __len__(self) -> int:
        """How many entities there are: solids, then people."""
        return len(self.solids) + len(self.people)

    def entity(self, index: int) -> Solid | Person:
        """Entity `index`: a solid, or a person beyond the last solid."""
        return (*self.solids, *self.people)[index]

    def with_style(self, style: str) -> "Scene":
        """The same scene, to be drawn in another style."""
        return dataclasses.replace(self, style=style)

    def to_json(self) -> str:
        """The scene as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """The scene that `to_json` wrote.

        Args:
            text: one JSON object with exactly the fields of the dataclasses.

        Returns:
            A scene equal to the one written.

        Raises:
            ValueError: not JSON, a field missing or unknown, or a value out of range.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"this is not a scene in JSON: {error}") from error
        return _decode(cls, data, "scene")


def _decode(kind: object, data: object, where: str) -> typing.Any:
    """Build `kind` (a dataclass, a tuple of them, str, int or float) from what JSON gave."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(data, dict) or set(data) != set(hints):
            given = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{where} must have exactly the fields {sorted(hints)}, not {given}")
        return kind(**{key: _decode(hints[key], data[key], f"{where}.{key}") for key in data})
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if not isinstance(data, list):
            raise ValueError(f"{where} must be a list, not {type(data).__name__}")
        kinds = [inner[0]] * len(data) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(data):
            raise ValueError(f"{where} must have {len(kinds)} numbers, not {len(data)}")
        pairs = zip(kinds, data, strict=True)
        return tuple(_decode(k, item, f"{where}[{n}]") for n, (k, item) in enumerate(pairs))
    if kind is float and type(data) in (int, float):
        return float(typing.cast(float, data))
    if type(data) is not kind:
        raise ValueError(f"{where} must be {getattr(kind, '__name__', kind)}, not {data!r}")
    return data
