"""The methods that restore a picture, and what each brings to a run.

    y = A x + n,    n ~ N(0, noise_std^2)

Which there are for which A:

    ddnm, ddrm, pigdm, mcg, ccdf           any linear one
    classifier                             likewise; y as a class of noisy pictures
    dps                                    any
    universal                              any: the residual as an energy, with time travel
    ilvr                                   pictures made smaller
    replacement, repaint, reconstruction   masks

On latent models operators act on decoded pictures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from unicond.backbones.base import Backbone
from unicond.mechanisms.correction.ccdf import CCDF
from unicond.mechanisms.correction.ilvr import ILVR
from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.guidance.classifier import Classifier
from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.guidance.mcg import MCG
from unicond.mechanisms.guidance.pigdm import PiGDM
from unicond.mechanisms.guidance.reconstruction import Reconstruction, Target
from unicond.mechanisms.guidance.universal import Descent, Universal, travelled
from unicond.mechanisms.inversion.paths import latest
from unicond.mechanisms.process.ddnm import DDNM
from unicond.mechanisms.process.ddrm import DDRM
from unicond.operators.base import LinearOperator
from unicond.sampling import plans
from unicond.sampling.plans import Plan
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism
from unicond.sampling.window import ALWAYS, Window
from unicond.tasks import measured
from unicond.tasks.likelihoods import gain_of, noisy_likelihood, residual_energy
from unicond.tasks.measured import Kind, Measured

ETA: Mapping[str, float] = {
    "dps": 0.0,
    "mcg": 1.0,
    "pigdm": 0.0,
    "classifier": 0.0,
    "universal": 1.0,
    "ilvr": 1.0,
    "ccdf": 1.0,
    "replacement": 1.0,
    "repaint": 1.0,
    "reconstruction": 0.0,
}
"""Noise of the DDIM step beside a method; DDNM and DDRM bring their own."""
NEW_NOISE = 0.85
"""Of DDNM and DDRM: share of a step's noise that is new."""
PULL = 2.0
"""Of DPS and MCG: length of all steps together, see `Case.length`."""
_OWN_LENGTH = ("pigdm", "reconstruction", "classifier", "universal")
WEIGHT: Mapping[str, float] = dict.fromkeys(_OWN_LENGTH, 1.0)
"""Of guidance that knows its own length."""
SOBER = Window(0.8)
"""When PiGDM acts on a noisy measurement. Before, x0 = latents / alpha and the coarse content of
pictures, which varies more than the formula's unit prior, make its steps too long: they diverge."""
START: Mapping[Kind, float] = {"mask": 0.6, "sr": 0.4, "linear": 0.6}
"""Of CCDF: share of the times that is left to mend the estimate."""
TRAVELLED = 3
"""Of universal guidance: moves of a plan, at least, of which the middle ones are gone twice."""
STRETCH, REPEATS = 0.2, 5
"""Of RePaint: stretches as a share of the plan, and how often each is gone."""


class Way(NamedTuple):
    """What a method brings to a run."""

    plan: Plan
    mechanisms: Sequence[Mechanism]
    solver: DDIM = DDIM()


@dataclass(frozen=True, eq=False)
class Case:
    """What a method is made from.

    Args:
        seen: the measurement.
        backbone: of the model.
        times: descending times of a whole run.
    """

    seen: Measured
    backbone: Backbone
    times: Sequence[float]

    def estimate(self) -> Tensor:
        """A plain guess as clean latents, (B or 1, C, h, w)."""
        return self.backbone.encode(self.seen.estimate())

    def down(self) -> Plan:
        """The moves from noise to clean."""
        return plans.descend(self.times, {"image": 1.0})

    def length(self) -> float:
        """DPS's zeta for any size and number of moves: PULL sqrt(values in y) / (moves * gain).

        A step moves A x by at most zeta times the gain, the largest s_i^2; all of them together
        could move each value of y by PULL.
        """
        values = math.prod(self.seen.operator.measurement_shape)
        gain = gain_of(self.seen.measurement)
        return PULL * math.sqrt(values) / (len(self.times) * gain)

    def parts(self) -> tuple[Tensor, Tensor]:
        """What is known of a picture, in latents.

        Returns:
            Clean latents (B or 1, C, h, w), and (1, 1, h, w), 1 where all of a latent is known.

        Raises:
            ValueError: no latent is.
        """
        side = self.backbone.factor
        mask = -functional.max_pool2d(-self.seen.known(), side)
        if not mask.any():
            raise ValueError(
                f"a latent of this base is {side} pixels wide, and none is known wholly: draw the "
                "mask coarser, or use a method that acts on decoded pixels, such as ddnm"
            )
        return self.estimate(), mask


def _ddnm(case: Case) -> Way:
    return Way(case.down(), [DDNM(measurement=case.seen.measurement, eta=NEW_NOISE)])


def _ddrm(case: Case) -> Way:
    return Way(case.down(), [DDRM(measurement=case.seen.measurement, eta=NEW_NOISE)])


def _dps(case: Case) -> Way:
    known, scale = case.seen.measurement, case.length()
    return Way(case.down(), [DPS(measurement=known, scale=scale)], DDIM(ETA["dps"]))


def _mcg(case: Case) -> Way:
    known, scale = case.seen.measurement, case.length()
    return Way(case.down(), [MCG(measurement=known, scale=scale)], DDIM(ETA["mcg"]))


def _pigdm(case: Case) -> Way:
    known, scale = case.seen.measurement, WEIGHT["pigdm"]
    exact = known.noise_std == 0
    window = ALWAYS if exact else SOBER
    guide = PiGDM(measurement=known, scale=scale, published=exact, window=window)
    return Way(case.down(), [guide], DDIM(ETA["pigdm"]))


def _classifier(case: Case) -> Way:
    known = case.seen.measurement
    said = noisy_likelihood(known, case.backbone.schedule)
    guide = Classifier(log_probability=said, scale=WEIGHT["classifier"])
    return Way(case.down(), [guide], DDIM(ETA["classifier"]))


def _universal(case: Case) -> Way:
    known, plan = case.seen.measurement, case.down()
    pixels = case.backbone.vae is None and isinstance(case.seen.operator, LinearOperator)
    guide = Universal(
        energy=residual_energy(known, case.backbone.factor),
        scale=WEIGHT["universal"],
        backward=Descent(learning_rate=1.0) if pixels else None,  # the energy's curvature is 1
        space=known.space,
    )
    moves = travelled(plan) if len(plan) >= TRAVELLED else plan
    return Way(moves, [guide], DDIM(ETA["universal"]))


def _ilvr(case: Case) -> Way:
    seen, backbone = case.seen, case.backbone
    smaller = seen.size[1] // seen.measurement.values.shape[-1]
    factor = max(2, smaller // backbone.factor)  # averages of less than two are nothing
    # a pixel model's averages are y itself; an autoencoder would take the edges of blocks for true
    reference = seen.shortest() if backbone.vae is None else case.estimate()
    return Way(case.down(), [ILVR(reference=reference, factor=factor)], DDIM(ETA["ilvr"]))


def _ccdf(case: Case) -> Way:
    used = latest(case.times, START[case.seen.kind])
    if used[0] >= 1:
        raise ValueError(
            f"ccdf starts in the middle of the way down, and {len(case.times)} step has pure noise "
            "alone to start from: give 2 steps or more (--steps), or choose another method"
        )
    mend = CCDF(measurement=case.seen.measurement, estimate=case.estimate())
    return Way(plans.path({"image": [*used, 0.0]}), [mend], DDIM(ETA["ccdf"]))


def _replacement(case: Case) -> Way:
    return Way(case.down(), [Replacement("image", *case.parts())], DDIM(ETA["replacement"]))


def _repaint(case: Case) -> Way:
    jump = max(1, round(STRETCH * len(case.times)))
    plan = resampled(case.down(), jump, REPEATS)
    return Way(plan, [Replacement("image", *case.parts())], DDIM(ETA["repaint"]))


def _reconstruction(case: Case) -> Way:
    known, mask = case.parts()
    target = Target(branch="image", known=known, mask=mask, weight=WEIGHT["reconstruction"])
    both = [Reconstruction([target]), Replacement("image", known, mask)]
    return Way(case.down(), both, DDIM(ETA["reconstruction"]))


LINEAR: tuple[Kind, ...] = ("mask", "sr", "linear")
METHODS: Mapping[str, tuple[Callable[[Case], Way], tuple[Kind, ...]]] = {
    "ddnm": (_ddnm, LINEAR),
    "ddrm": (_ddrm, LINEAR),
    "dps": (_dps, (*LINEAR, "nonlinear")),
    "mcg": (_mcg, LINEAR),
    "pigdm": (_pigdm, LINEAR),
    "classifier": (_classifier, LINEAR),
    "universal": (_universal, (*LINEAR, "nonlinear")),
    "ilvr": (_ilvr, ("sr",)),
    "repaint": (_repaint, ("mask",)),
    "ccdf": (_ccdf, LINEAR),
    "replacement": (_replacement, ("mask",)),
    "reconstruction": (_reconstruction, ("mask",)),
}
"""{method: (what makes it, the kinds of operators that it is for)}."""
DEFAULTS: Mapping[Kind, str] = {"mask": "ddnm", "sr": "ddnm", "linear": "ddrm", "nonlinear": "dps"}
"""The method where none is asked for."""
KINDS: Mapping[Kind, str] = {
    "mask": "masks",
    "sr": "pictures made smaller (sr2, sr4, sr8)",
    "linear": "other linear operators",
    "nonlinear": "operators that are not linear",
}


def methods_for(operator: str) -> list[str]:
    """The methods that an operator can be restored by.

    Args:
        operator: as of the registry, or `"mask"`.

    Returns:
        Their names.
    """
    kind = measured.kind_of(operator)
    return [name for name, (_, kinds) in METHODS.items() if kind in kinds]
