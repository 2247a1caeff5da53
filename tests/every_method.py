"""One of every method, as the tiny model's public call takes it: what it is made of and beside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from unicond.adapters.readout import ReadoutConfig, ReadoutHead, channels_of
from unicond.calls.companions import companion
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.masactrl import MasaCtrl
from unicond.mechanisms.attention.paint_with_words import Painted, PaintWithWords
from unicond.mechanisms.attention.plug_and_play import PlugAndPlay
from unicond.mechanisms.attention.prompt_to_prompt import PromptToPrompt
from unicond.mechanisms.attention.style_injection import StyleInjection
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.composable import Composable
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.blending.magic_fusion import MagicFusion
from unicond.mechanisms.blending.multidiffusion import Panorama, Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.blending.perturbed import PerturbedAttention
from unicond.mechanisms.blending.regions import Region
from unicond.mechanisms.blending.semantic import Edit, SemanticGuidance
from unicond.mechanisms.correction.ccdf import CCDF
from unicond.mechanisms.correction.ilvr import ILVR
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.guidance.classifier import Classifier
from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.guidance.layout import Layout, Placed
from unicond.mechanisms.guidance.mcg import MCG
from unicond.mechanisms.guidance.pigdm import PiGDM
from unicond.mechanisms.guidance.properties import Position
from unicond.mechanisms.guidance.readout import Readout
from unicond.mechanisms.guidance.reconstruction import Reconstruction, Target
from unicond.mechanisms.guidance.self_guidance import SelfGuidance
from unicond.mechanisms.guidance.universal import Universal
from unicond.mechanisms.measurement import Measurement, space_of
from unicond.mechanisms.process.ddnm import DDNM
from unicond.mechanisms.process.ddrm import DDRM
from unicond.model import Model
from unicond.operators.resizing import super_resolution
from unicond.sampling.state import Mechanism
from unicond.sampling.window import ALWAYS, Window

OLD, NEW = "a red ball", "a big red box"
NEVER = Window.steps(90, 99)
SIZE = 64


def picture(seed):
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@dataclass
class Bench:
    """A model, and what mechanisms are made of, made once."""

    model: Model
    made: dict = field(default_factory=dict)

    def once(self, make):
        if make not in self.made:
            self.made[make] = make(self)
        return self.made[make]

    def places(self, prompt, word):
        return words.places(self.model.backbone.tokenizers[0], prompt, [word])

    @property
    def measurement(self):
        return self.once(_measurement)

    @property
    def clean(self):
        return self.once(_clean)

    @property
    def head(self):
        return self.once(_head)

    @property
    def other(self):
        return self.once(_other)

    @property
    def alignment(self):
        return words.refined(self.model.backbone.tokenizers[0], OLD, NEW)


@torch.no_grad()
def _measurement(bench):
    operator = super_resolution((3, SIZE, SIZE), 4)
    values = operator.forward(picture(3)[None])
    space = space_of(bench.model.backbone)
    return Measurement(operator=operator, values=values, noise_std=0.05, space=space)


@torch.no_grad()
def _clean(bench):
    return bench.model.backbone.encode(picture(4)[None])


def _head(bench):
    blocks = channels_of(bench.model.backbone.network)
    config = ReadoutConfig(kind="depth", blocks=blocks, channels=1, width=16)
    return ReadoutHead(config, torch.Generator().manual_seed(0)).requires_grad_(False)


def _other(bench):
    return companion(bench.model, bench.model, "the cat")


def _near_zero(latents):
    return latents.square().flatten(1).sum(1)


def _half():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    return mask


def _left(weight=1.0):
    return [Region(prompt="the cat", box=(0.0, 0.0, 0.5, 1.0), weight=weight)]


@dataclass(frozen=True)
class Kind:
    """How one method is made.

    Args:
        make: of the bench and a scale; 0.0 is neutral.
        rank: place in the list of mechanisms, small is outermost.
        neutral: whether scale 0.0 is the mechanism absent, whatever is around it. An edit by
            attention starts its target where the source is; CCDF brings a start of its own, and
            DDRM the steps, from which nothing is left out.
    """

    make: Callable[[Bench, float], Mechanism]
    rank: int
    neutral: bool = True


def opened(scale):
    return ALWAYS if scale else NEVER


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Panorama": Kind(lambda _b, s: Panorama(window=(8, 4 if s else 8), stride=(8, 2)), 4),
        "DPS": Kind(lambda b, s: DPS(measurement=b.measurement, scale=0.5 * s), 1),
        "MCG": Kind(lambda b, s: MCG(measurement=b.measurement, scale=0.5 * s), 1),
        "PiGDM": Kind(lambda b, s: PiGDM(measurement=b.measurement, scale=0.5 * s), 1),
        "Universal": Kind(lambda _b, s: Universal(energy=_near_zero, scale=0.1 * s), 1),
        "Classifier": Kind(
            lambda _b, s: Classifier(log_probability=lambda x, _: -_near_zero(x), scale=0.1 * s), 1
        ),
        "Reconstruction": Kind(
            lambda b, s: Reconstruction([Target(branch="image", known=b.clean, weight=0.3 * s)]), 1
        ),
        "Layout": Kind(
            lambda b, s: Layout(
                objects=[Placed(words=b.places(NEW, "box"), box=(0.0, 0.0, 0.5, 1.0))],
                scale=30.0 * s,
                iterations=2,
                stop=0.0,
                window=ALWAYS,
            ),
            2,
        ),
        "SelfGuidance": Kind(
            lambda b, s: SelfGuidance(
                terms=[Position(words=b.places(NEW, "box"), to=(0.2, 0.7))], scale=100.0 * s
            ),
            2,
        ),
        "Readout": Kind(
            lambda b, s: Readout(head=b.head, wanted=torch.ones(1, 1, 64, 64), scale=s), 2
        ),
        "PaintWithWords": Kind(
            lambda b, s: PaintWithWords(
                regions=[Painted(words=b.places(NEW, "box"), mask=_half())], scale=2.0 * s
            ),
            3,
        ),
        "PromptToPrompt": Kind(
            lambda b, s: PromptToPrompt(
                target="image",
                alignment=b.alignment,
                cross_maps=opened(s),
                self_maps=opened(s),
            ),
            3,
            neutral=False,
        ),
        "PlugAndPlay": Kind(
            lambda _b, s: PlugAndPlay(target="image", features=opened(s), attention=opened(s)),
            3,
            neutral=False,
        ),
        "MasaCtrl": Kind(
            lambda _b, s: MasaCtrl(target="image", window=opened(s), layers=(0.0, 1.0)),
            3,
            neutral=False,
        ),
        "StyleInjection": Kind(
            lambda _b, _s: StyleInjection(target="image", layers=(0.0, 1.0)), 3, neutral=False
        ),
        "MagicFusion": Kind(lambda b, s: MagicFusion(other=b.other, weight=s), 2),
        "Composable": Kind(lambda _b, s: Composable(concepts={"the cat": 3.0 * s}), 5),
        "SemanticGuidance": Kind(
            lambda _b, s: SemanticGuidance(edits=[Edit(prompt="the cat", scale=s, window=ALWAYS)]),
            5,
        ),
        "NoiseCollage": Kind(lambda _b, s: NoiseCollage(objects=_left(s)), 3),
        "Regions": Kind(lambda _b, s: Regions(regions=_left(s)), 3),
        "ConditionGuidance": Kind(lambda _b, s: ConditionGuidance(1.5 * s), 5),
        "PerturbedAttention": Kind(lambda _b, s: PerturbedAttention(2.0 * s), 5),
        "ClassifierFree": Kind(lambda _b, s: ClassifierFree(1.0 + 2.0 * s), 6),
        "DDNM": Kind(lambda b, s: DDNM(measurement=b.measurement, window=opened(s)), 7),
        "DDRM": Kind(lambda b, _s: DDRM(measurement=b.measurement), 7, neutral=False),
        "ILVR": Kind(lambda b, s: ILVR(reference=b.clean, factor=4, window=opened(s)), 8),
        "CCDF": Kind(
            lambda b, _s: CCDF(measurement=b.measurement, estimate=b.clean), 8, neutral=False
        ),
        "Replacement": Kind(lambda b, s: Replacement("image", b.clean, s * _half()), 8),
    }
)
"""Those that meet a run by a class of their own; inversions come by `plan_edit`."""


RANKED = tuple(sorted(KINDS, key=lambda name: (KINDS[name].rank, name)))
"""An order in which all that go together do."""


def made_of(bench, names, neutral=(), order=RANKED):
    """Mechanisms in an order of all; some are neutral."""
    scales = {**dict.fromkeys(names, 1.0), **dict.fromkeys(neutral, 0.0)}
    return [KINDS[name].make(bench, scales[name]) for name in order if name in scales]
