"""The embedded world: a procedural universe of solids and people with exact annotations.

`World(seed)[i]` is a scene (pure data), `render` draws scenes with all their maps, `describe` says
what is to be seen. Nothing is loaded and nothing is downloaded; a scene is its number.
"""

from unicond.world.captions import Caption, Named, describe
from unicond.world.drawings import draw_skeletons
from unicond.world.generate import World
from unicond.world.render import Rendering, render
from unicond.world.scene import (
    Camera,
    Identity,
    Person,
    Place,
    Pose,
    Relation,
    Scene,
    Solid,
)

__all__ = [
    "Camera",
    "Caption",
    "Identity",
    "Named",
    "Person",
    "Place",
    "Pose",
    "Relation",
    "Rendering",
    "Scene",
    "Solid",
    "World",
    "describe",
    "draw_skeletons",
    "render",
]
