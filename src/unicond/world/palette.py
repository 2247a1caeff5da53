"""Every colour of the world, as sRGB in [0, 1], and the lights of the four skies (linear RGB)."""

from dataclasses import dataclass

Rgb = tuple[float, float, float]

COLOR_RGB: dict[str, Rgb] = {
    "red": (0.86, 0.10, 0.11),
    "orange": (0.99, 0.52, 0.05),
    "yellow": (0.98, 0.87, 0.12),
    "green": (0.10, 0.62, 0.20),
    "blue": (0.08, 0.34, 0.92),
    "purple": (0.66, 0.22, 0.76),
    "brown": (0.46, 0.27, 0.13),
    "white": (0.96, 0.96, 0.95),
    "black": (0.09, 0.09, 0.10),
}
SKIN_RGB: dict[str, Rgb] = {
    "light": (0.97, 0.80, 0.70),
    "tan": (0.86, 0.64, 0.46),
    "brown": (0.62, 0.41, 0.27),
    "dark": (0.36, 0.23, 0.16),
}
HAIR_RGB: dict[str, Rgb] = {
    "black": (0.08, 0.07, 0.08),
    "brown": (0.36, 0.20, 0.10),
    "blond": (0.95, 0.80, 0.38),
    "red": (0.80, 0.32, 0.08),
    "white": (0.90, 0.90, 0.90),
}
SHOE_RGB: Rgb = (0.22, 0.20, 0.22)
EYE_RGB: Rgb = (0.06, 0.05, 0.06)

GROUND_RGB: dict[str, tuple[Rgb, Rgb]] = {
    "grass": ((0.36, 0.50, 0.20), (0.52, 0.63, 0.30)),
    "sand": ((0.80, 0.70, 0.50), (0.89, 0.81, 0.63)),
    "wood": ((0.64, 0.49, 0.34), (0.78, 0.63, 0.46)),
    "tiles": ((0.52, 0.54, 0.56), (0.70, 0.72, 0.73)),
    "snow": ((0.80, 0.85, 0.92), (0.90, 0.93, 0.97)),
    "checker": ((0.38, 0.40, 0.45), (0.82, 0.82, 0.80)),
}
"""Darker and lighter tone of each ground."""


@dataclass(frozen=True)
class Light:
    """One sky: colours in sRGB, intensities in linear RGB, how dense clouds are."""

    horizon: Rgb
    zenith: Rgb
    sun: Rgb
    ambient: Rgb
    bounce: Rgb
    cloud: Rgb = (1.0, 1.0, 1.0)
    cloudy: float = 0.0


LIGHTS: dict[str, Light] = {
    "day": Light(
        horizon=(0.80, 0.89, 0.97),
        zenith=(0.30, 0.56, 0.90),
        sun=(0.84, 0.80, 0.72),
        ambient=(0.42, 0.45, 0.50),
        bounce=(0.32, 0.32, 0.32),
        cloudy=0.65,
    ),
    "sunset": Light(
        horizon=(0.99, 0.68, 0.42),
        zenith=(0.44, 0.32, 0.58),
        sun=(0.86, 0.71, 0.58),
        ambient=(0.44, 0.40, 0.45),
        bounce=(0.32, 0.30, 0.30),
        cloud=(1.0, 0.80, 0.66),
        cloudy=0.65,
    ),
    "night": Light(
        horizon=(0.14, 0.18, 0.32),
        zenith=(0.03, 0.04, 0.12),
        sun=(0.48, 0.50, 0.56),
        ambient=(0.24, 0.25, 0.30),
        bounce=(0.18, 0.18, 0.19),
    ),
    "overcast": Light(
        horizon=(0.80, 0.81, 0.82),
        zenith=(0.58, 0.61, 0.65),
        sun=(0.40, 0.40, 0.40),
        ambient=(0.52, 0.53, 0.55),
        bounce=(0.34, 0.34, 0.34),
    ),
}

CLASS_RGB: dict[str, Rgb] = {
    "sky": (0.02, 0.90, 0.90),
    "ground": (0.31, 0.20, 0.31),
    "ball": (0.90, 0.10, 0.10),
    "box": (0.10, 0.30, 0.95),
    "cylinder": (0.10, 0.75, 0.20),
    "pill": (0.75, 0.15, 0.85),
    "cone": (0.98, 0.60, 0.05),
    "person": (0.98, 0.95, 0.55),
}
"""Colours of the segmentation drawing."""
