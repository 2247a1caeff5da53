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
from unicond.sampling.window import Window
from unicond.tasks import measured
from unicond.tasks.likelihoods import gain_of, loudness, noisy_likelihood, residual_energy
from unicond.tasks.measured import Kind, Measured

NEW_NOISE = 0.85
"""Of DDNM and DDRM: share of a step's noise that is new."""
PULL: Mapping[str, float] = {"dps": 1.0, "mcg": 2.0}
"""Length of all steps together, see `Case.length`."""
WEIGHT: Mapping[str, float] = {
    "pigdm": 1.0,
    "reconstruction": 0.3,
    "classifier": 1.0,
    "universal": 1.0,
    "descended": 0.1,
}
"""Of guidance that knows its own length; `descended` is universal's beside its backward half."""
SOBER = Window(0.8)
"""When guidance through the network acts. Before, x0 = latents / alpha and the coarse content of
pictures, which varies more than a unit prior, make its steps too long: holes come out black."""
LOUDEST = 1.0
"""Standard deviation of the noise that may come out of `A^+ y` where y is taken as exact."""
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
    solver: DDIM = DDIM(eta=1.0)


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

    def length(self, pull: float) -> float:
        """DPS's zeta for any size and number of moves: pull sqrt(values in y) / (moves * gain).

        A step moves A x by at most zeta times the gain, the largest s_i^2; all of them together
        could move each value of y by the pull. On latents a decoder stands before A, which makes
        much more of a change: it counts as its `factor`.
        """
        values = math.prod(self.seen.operator.measurement_shape)
        gain = gain_of(self.seen.measurement) * self.backbone.factor
        return pull * math.sqrt(values) / (len(self.times) * gain)

    def check_exact(self, method: str) -> None:
        """Refuse noise that a method which takes y as exact would blow up beyond all pictures.

        Args:
            method: takes it so.

        Raises:
            ValueError: the noise of `A^+ y` exceeds `LOUDEST`.
        """
        loud = loudness(self.seen.measurement)
        if loud > LOUDEST:
            raise ValueError(
                f"{method} takes a measurement as exact, and to undo this one makes its noise "
                f"{loud:.3g} (pixels have -1 to 1, {LOUDEST:g} is allowed): choose ddrm, ddnm, "
                "pigdm, dps or universal (--method), which know the noise level"
            )

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
    return Way(case.down(), [DDNM(measurement=case.seen.measurement, eta=NEW_NOISE)], DDIM())


def _ddrm(case: Case) -> Way:
    return Way(case.down(), [DDRM(measurement=case.seen.measurement, eta=NEW_NOISE)], DDIM())


def _dps(case: Case) -> Way:
    known, scale = case.seen.measurement, case.length(PULL["dps"])
    return Way(case.down(), [DPS(measurement=known, scale=scale, window=SOBER)])


def _mcg(case: Case) -> Way:
    case.check_exact("mcg")
    known, scale = case.seen.measurement, case.length(PULL["mcg"])
    return Way(case.down(), [MCG(measurement=known, scale=scale)])


def _pigdm(case: Case) -> Way:
    known, scale = case.seen.measurement, WEIGHT["pigdm"] / case.backbone.factor
    guide = PiGDM(measurement=known, scale=scale, published=known.noise_std == 0, window=SOBER)
    return Way(case.down(), [guide])


def _classifier(case: Case) -> Way:
    known = case.seen.measurement
    said = noisy_likelihood(known, case.backbone.schedule)
    guide = Classifier(log_probability=said, scale=WEIGHT["classifier"])
    return Way(case.down(), [guide], DDIM())


def _universal(case: Case) -> Way:
    known, plan = case.seen.measurement, case.down()
    pixels = case.backbone.vae is None and isinstance(case.seen.operator, LinearOperator)
    guide = Universal(
        energy=residual_energy(known, case.backbone.factor),
        scale=WEIGHT["descended" if pixels else "universal"],
        backward=Descent(learning_rate=1.0) if pixels else None,  # the energy's curvature is 1
        space=known.space,
        window=SOBER,
    )
    moves = travelled(plan) if len(plan) >= TRAVELLED else plan
    return Way(moves, [guide])


def _ilvr(case: Case) -> Way:
    seen, backbone = case.seen, case.backbone
    smaller = seen.size[1] // seen.measurement.values.shape[-1]
    factor = max(2, smaller // backbone.factor)  # averages of less than two are nothing
    # a pixel model's averages are y itself; an autoencoder would take the edges of blocks for true
    reference = seen.shortest() if backbone.vae is None else case.estimate()
    return Way(case.down(), [ILVR(reference=reference, factor=factor)])


def _ccdf(case: Case) -> Way:
    case.check_exact("ccdf")
    used = latest(case.times, START[case.seen.kind])
    if used[0] >= 1:
        raise ValueError(
            f"ccdf starts in the middle of the way down, and {len(case.times)} step has pure noise "
            "alone to start from: give 2 steps or more (--steps), or choose another method"
        )
    mend = CCDF(measurement=case.seen.measurement, estimate=case.estimate())
    return Way(plans.path({"image": [*used, 0.0]}), [mend])


def _replacement(case: Case) -> Way:
    return Way(case.down(), [Replacement("image", *case.parts())])


def _repaint(case: Case) -> Way:
    jump = max(1, round(STRETCH * len(case.times)))
    plan = resampled(case.down(), jump, REPEATS)
    return Way(plan, [Replacement("image", *case.parts())])


def _reconstruction(case: Case) -> Way:
    known, mask = case.parts()
    target = Target(branch="image", known=known, mask=mask, weight=WEIGHT["reconstruction"])
    both = [Reconstruction([target], window=SOBER), Replacement("image", known, mask)]
    return Way(case.down(), both)


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
