"""What `test_composition` draws: ways through the public call, and mechanisms that go by them."""

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import torch

import unicond
from every_method import KINDS, NEW, OLD, picture
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.masactrl import Subject
from unicond.mechanisms.attention.prompt_to_prompt import LocalBlend
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.guidance.universal import travelled
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.sampling import plans
from unicond.sampling.solvers import DDIM, SOLVERS
from unicond.tasks.edit import INVERSIONS

STEPS = 4
DRAWS = 33
EDITS = ("PromptToPrompt", "PlugAndPlay", "MasaCtrl", "StyleInjection")
NAMED = ("image-first", "curve(0.3)", "coarse(0.4)")
LOOKING = ("Layout", "SelfGuidance", "Readout", "PaintWithWords")
APART = [{"DDNM", "DDRM"}, *({"Panorama", name} for name in LOOKING)]
"""Pairs that are refused, whatever is around them."""
MENDING = {"DDNM", "DDRM", "DPS", "MCG", "Layout", "ILVR", "CCDF", "Replacement"}
"""What moves a state after its step."""
ALONE = ["image"]
HALF = torch.zeros(1, 1, 64, 64)
HALF[..., :32] = 1


def times(bench):
    return bench.model.backbone.schedule.times(STEPS)


# --- what is around the mechanisms ---------------------------------------------------------------


def branches(generator):
    """Arguments of a call: conditions held or free, coarse or masked, alone or together."""
    mask = HALF[0]
    depth, identity, image, pose = picture(1), picture(2), picture(4), picture(5)
    return generator.choice(
        [
            {"branches": ALONE},
            {"branches": ALONE, "depth": depth},
            {"branches": ALONE, "depth": depth, "held": "one_way"},
            {"branches": ALONE, "depth": depth, "id": identity},
            {"branches": ["image", "depth"]},
            {"branches": ["image", "depth"], "id": identity},
            {"branches": ALONE, "depth": unicond.Given(depth, noise=0.4)},
            {"branches": ALONE, "depth": unicond.Given(depth, noise=0.3, hold=True)},
            {"branches": ALONE, "depth": unicond.Given(depth, mask=mask)},
            {"branches": ALONE, "image": unicond.Given(image, mask=mask)},
            {"branches": ALONE, "image": unicond.Given(image, mask=mask), "depth": depth},
            {"branches": ["image", "depth"], "depth": unicond.Given(depth, guide=True)},
            {"branches": ALONE, "pose": pose, "attention": "aligned"},
            {"branches": ALONE, "pose": pose, "held": "one_way"},
            {"branches": ALONE, "depth": depth, "pose": unicond.Given(pose, mask=mask)},
            {"branches": ["image", "pose"], "depth": depth},
        ]
    )


def down(bench, generator, draw):
    """From noise, by any solver; attention reads from pictures that are drawn beside."""
    call = {**branches(generator), "num_inference_steps": STEPS, "solver": draw.solver}
    shown = {"source": OLD, "style": "a blue cone"}
    beside = [*shown] if "StyleInjection" in draw.names else ["source"] * draw.edits
    call["references"] = {b: unicond.Reference(prompt=shown[b]) for b in beside}
    if "CCDF" in draw.names:
        call["image"] = unicond.Given(picture(4), noise=0.4)
    return call, (), ()


def again(bench, _, draw):
    """From noise, on a plan that goes back up."""
    plan = plans.descend(times(bench), {"image": 1.0, "depth": 0.0})
    back = resampled(plan, 1, 2) if draw.kind == "resampled" else travelled(plan, 2, 0.2, 0.6)
    call = {"branches": ALONE, "depth": picture(1), "plan": back, "solver": draw.solver}
    return call, (), ()


def planned(_bench, _generator, draw):
    """Image and depth from noise, on a plan by name."""
    call = {"branches": ["image", "depth"], "plan": draw.kind, "solver": draw.solver}
    given = {"depth": picture(1)} if draw.kind.startswith("coarse") else {}
    return {**call, **given, "num_inference_steps": STEPS}, (), ()


def edited(bench, generator, draw):
    """A given picture goes up and comes down again beside its edit, under held conditions."""
    depth, pose = picture(1), picture(5)
    held = generator.choice([{}, {"depth": depth}, {"pose": pose}, {"depth": depth, "pose": pose}])
    hold = dict.fromkeys(held, 0.0)
    edit = plan_edit(draw.kind, times(bench), target="image", hold=hold)
    call = {"branches": ALONE, **held, "image": picture(4), "plan": edit.plan}
    shown = {"source": unicond.Reference(prompt=OLD, picture=picture(4))}
    return {**call, "solver": edit.solver, "references": shown}, edit.mechanisms, edit.inner


def noised(bench, _, draw):
    """A given picture is noised, and drawn anew from there."""
    edit = plan_edit("sdedit", times(bench), strength=0.75, target="image", hold={"depth": 0.0})
    call = {"branches": ALONE, "image": picture(4), "depth": picture(1), "plan": edit.plan}
    return {**call, "solver": draw.solver}, (), ()


def diffed(bench, _generator, _draw):
    """DiffEdit, which has a plan of its own."""
    edit = DiffEdit(source=OLD, samples=1)
    plan = edit.plan(times(bench), {"image": 0.0, "depth": 0.0})
    call = {"branches": ALONE, "image": picture(4), "depth": picture(1), "plan": plan}
    return {**call, "solver": DDIM()}, (edit,), ()


PLANS = [
    *product([down], SOLVERS),
    *product([again], ["resampled", "travelled"]),
    *product([planned], NAMED),
    *product([edited], INVERSIONS),
    (noised, "sdedit"),
    (diffed, "diffedit"),
]
"""Every way, and what it is a way by."""


def fits(way, kind, names):
    """Whether a way takes mechanisms; what it does not take is refused, below."""
    if any(pair <= names for pair in APART):
        return False
    if "CCDF" in names and (way is not down or names & {*EDITS}):  # it starts late, and alone
        return False
    # through windows, a random network's fixed points do not converge; null-text goes outside
    if way is edited and "Panorama" in names and kind in ("fixed_point", "null_text"):
        return False
    if "StyleInjection" in names:
        return way is down
    edits, mending = bool(names & {*EDITS}), bool(names & MENDING)
    refused = {again: edits, planned: edits, noised: edits, diffed: edits or mending}
    return not refused.get(way, kind == "edict" and mending)


# --- what is drawn -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """A way, two or three mechanisms, and one more that is neutral.

    Args:
        way: what is around the mechanisms.
        kind: by what the way goes.
        names: of those that act.
        neutral: the one that is not to be told from none.
        solver: of ways that take any.
        manners: {mechanism: how it acts}, of those that have several manners.
    """

    way: object
    kind: str
    names: frozenset
    neutral: str
    solver: str
    manners: dict = field(default_factory=dict)

    @property
    def edits(self):
        return bool(self.names & {*EDITS})

    def made(self, bench, mechanism):
        """A mechanism in its manner, if it has several."""
        return self.manners.get(type(mechanism).__name__, plainly)(bench, mechanism)


def with_blend(bench, edit):
    marked = bench.places(NEW, "box")
    return dataclasses.replace(edit, blend=LocalBlend(source=marked, target=marked))


def with_scales(bench, edit):
    scales = words.scales(bench.model.backbone.tokenizers[0], NEW, {"red": 3.0})
    return dataclasses.replace(edit, scales=scales)


def with_masks(bench, edit):
    subject = Subject(source=bench.places(OLD, "ball"), target=bench.places(NEW, "box"))
    return dataclasses.replace(edit, subject=subject)


def plainly(_bench, edit):
    return edit


MANNERS = {"PromptToPrompt": (plainly, with_blend, with_scales), "MasaCtrl": (plainly, with_masks)}


def rarest(generator, options, used):
    """One of those that were drawn least so far."""
    least = min(used[one] for one in options)
    found = generator.choice([one for one in options if used[one] == least])
    used[found] += 1
    return found


def draw(generator, first, used):
    """A draw in which one method acts; what was rare before is preferred."""
    fitting = []
    while not fitting:
        names = frozenset({first, *generator.sample([*KINDS], generator.choice([1, 2]))})
        fitting = [plan for plan in PLANS if len(names) > 1 and fits(*plan, names)]
    way, kind = rarest(generator, fitting, used)
    solvers = [kind] if way in (down, edited, diffed) else [*SOLVERS]
    solver = rarest(generator, solvers, used)
    # an edit starts its target where the source is, as an inversion does by itself
    free = {n for n in KINDS if KINDS[n].neutral or (way is edited and n in EDITS)}
    others = [n for n in KINDS if n in free - names and fits(way, kind, names | {n})]
    neutral = rarest(generator, [n for n in others if not clash(n, names)], used)
    manners = {}
    for name in MANNERS:
        # what looks into the network is refused in windows, what mends is beside EDICT
        plain = "Panorama" in {*names, neutral} or kind == "edict"
        if name in names:
            manners[name] = plainly if plain else rarest(generator, MANNERS[name], used)
    return Draw(way, kind, names, neutral, solver, manners)


def clash(neutral, names):
    """Whether a shut window is refused all the same: that it never opens is not known before."""
    mending = {"DDNM": {"ILVR", "CCDF", "Replacement", "MCG"}, "ILVR": {"DDNM", "DDRM"}}
    return bool(mending.get(neutral, set()) & names)


def drawn():
    """All draws: what was rare so far comes first, so that everything comes."""
    used, kinds = Counter(), [*KINDS]
    return [draw(random.Random(n), kinds[n % len(kinds)], used) for n in range(DRAWS)]


DRAWN = drawn()
