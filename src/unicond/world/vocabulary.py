"""The words of the world: every closed list that captions, maps and probes share, in fixed order.

An index into one of these tuples is what the integer maps of a rendering hold, so their order never
changes: models and probes are trained on it.
"""

SHAPES = ("ball", "box", "cylinder", "pill", "cone")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "white", "black")
STYLES = ("photo", "toon", "sketch", "neon", "pastel", "blueprint")
GROUNDS = ("grass", "sand", "wood", "tiles", "snow", "checker")
SKIES = ("day", "sunset", "night", "overcast")
POSES = (
    "standing",
    "walking",
    "sitting",
    "pointing",
    "waving",
    "arms up",
    "holding",
    "pushing",
)

SKINS = ("light", "tan", "brown", "dark")
HAIRS = ("black", "brown", "blond", "red", "white")
SHIRTS = ("red", "yellow", "green", "blue", "purple", "white")
TROUSERS = ("blue", "black", "brown", "white", "green")
HAIR_CUTS = ("short", "long", "bun")
SLEEVES = ("short", "long")
BUILDS = ("slim", "average", "broad")

SPATIAL_RELATIONS = ("left of", "right of", "in front of", "behind", "on top of")
ACTIONS = ("holding", "pushing", "sitting on", "pointing at")
RELATIONS = SPATIAL_RELATIONS + ACTIONS

CLASSES = ("sky", "ground", *SHAPES, "person")
"""Values of the class map."""

COLOR_NAMES = ("none", *COLORS, "other")
"""Values of the colour map: `none` is sky and ground, `other` is skin and eyes."""

PARTS = ("none", "solid", "skin", "hair", "shirt", "trousers", "shoes", "eyes")
"""Values of the part map: `none` is sky and ground."""

HAIR_COLOR_NAMES = {
    "black": "black",
    "brown": "brown",
    "blond": "yellow",
    "red": "orange",
    "white": "white",
}
"""What each hair is called in the colour map."""

KEYPOINTS = (
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
)
"""The 18 keypoints of OpenPose (COCO-18), in its order; right and left are the person's own."""


def check_word(word: str, allowed: tuple[str, ...], what: str) -> None:
    """Raise unless `word` is one of `allowed`.

    Args:
        word: the word given.
        allowed: the words there are.
        what: what the word names, for the message.

    Raises:
        ValueError: the word is not allowed.
    """
    if word not in allowed:
        raise ValueError(f"{what} {word!r} is not known; choose one of {', '.join(allowed)}")
