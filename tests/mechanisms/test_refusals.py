"""What cannot be is refused before the network is asked, and what mechanisms declare is so."""

import dataclasses

import pytest
import torch

import unicond
from every_method import KINDS, NEW, OLD, Bench, picture
from unicond.adapters.readout import ReadoutConfig, ReadoutHead
from unicond.mechanisms.attention.editing import Edit
from unicond.mechanisms.attention.masactrl import Subject
from unicond.mechanisms.attention.paint_with_words import Painted
from unicond.mechanisms.attention.prompt_to_prompt import LocalBlend, PromptToPrompt
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.guidance.layout import Placed
from unicond.mechanisms.guidance.properties import Position
from unicond.mechanisms.guidance.reconstruction import Reconstruction, Target
from unicond.mechanisms.inversion.ddim import DDIMInversion
from unicond.mechanisms.inversion.direct import Direct
from unicond.mechanisms.inversion.edict import EDICT
from unicond.mechanisms.inversion.edit_friendly import EditFriendly
from unicond.mechanisms.inversion.fixed_point import FixedPoint
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.mechanisms.inversion.null_text import NullText
from unicond.mechanisms.inversion.paths import up_and_down
from unicond.sampling import plans
from unicond.sampling.noise import Generators
from unicond.sampling.solvers import DDIM, named
from unicond.sampling.state import Setup, State, numbered

TIMES = (0.9, 0.5, 0.2)
BOTH = {"source": 0.0, "image": 0.0}


@pytest.fixture(scope="module")
def bench(tiny):
    return Bench(tiny)


def setup_of(bench, mechanisms, plan, solver=None, sides=(8, 8)):
    """A run of latents of zeros: nothing but its shapes and times."""
    moves = numbered(plan)
    t = moves[0].t
    latents = dict.fromkeys(t, torch.zeros(1, 4, *sides))
    state = State(latents, t, bench.model.backbone.schedule, Generators([0], tuple(t)))
    return Setup(state, moves, solver or DDIM(), mechanisms)


def refuses(said, setup):
    with pytest.raises(ValueError, match=said):
        setup.check()


# --- plan and solver -----------------------------------------------------------------------------


def test_steps_that_draw_noise_are_not_inverted(bench):
    way = up_and_down(TIMES, ("image",))
    refuses("'image' moves up, which is deterministic", setup_of(bench, [], way, DDIM(eta=0.5)))
    setup_of(bench, [], way, DDIM()).check()


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "ddpm"])
@pytest.mark.parametrize(
    "mechanisms",
    [
        [FixedPoint(target="image")],
        [DDIMInversion(target="image"), NullText(target="image")],
        [EditFriendly(target="image")],
    ],
    ids=["fixed_point", "null_text", "edit_friendly"],
)
def test_what_counts_on_the_first_order_step_has_it(bench, mechanisms, solver):
    way = up_and_down(TIMES, BOTH)
    said = "deterministic first-order step|which is deterministic"
    refuses(said, setup_of(bench, mechanisms, way, named(solver)))
    setup_of(bench, mechanisms, way).check()


def test_what_leads_back_to_the_way_up_finds_it(bench):
    way = up_and_down(TIMES, BOTH)
    lost = "needs the inverted latents at t=0.5000, and the way up passed"
    refuses(f"Direct {lost} nothing", setup_of(bench, [Direct()], way))
    other = [*way[:3], *plans.path({branch: [0.9, 0.6, 0.0] for branch in BOTH})]
    ddim = DDIMInversion(target="image")
    refuses("at t=0.6000, and the way up", setup_of(bench, [ddim, Direct()], other))
    refuses("at t=0.6000", setup_of(bench, [ddim, NullText(target="image")], other))
    falling = plans.descend(TIMES, {"source": 1.0, "image": 1.0})
    refuses("DDIMInversion inverts 'source', but no move", setup_of(bench, [ddim], falling))


def test_edict_goes_one_way(bench):
    moves = plans.path({"source": [0.0, 0.5], "image": [0.5, 0.0]})
    refuses("EDICT moves all branches one way", setup_of(bench, [], moves, EDICT()))


@pytest.mark.parametrize("name", ["DDNM", "DDRM", "DPS", "MCG", "Layout", "ILVR", "Replacement"])
def test_edict_is_not_mended_between_its_steps(bench, name):
    mechanism = KINDS[name].make(bench, 1.0)
    way = up_and_down(TIMES, BOTH)
    ascent = DDIMInversion(target="image", guided=True)
    said = f"EDICT walks with two states, and after a step {name} changes one of them in"
    refuses(said, setup_of(bench, [ascent, mechanism], way, EDICT()))
    setup_of(bench, [ascent], way, EDICT()).check()
    once = plans.path({"image": [0.5, 0.0]})
    setup_of(bench, [mechanism], once, EDICT()).check()  # the last step is followed by none


def test_diffedit_wants_its_own_moves_and_nobody_in_its_way(bench):
    edit = DiffEdit(source=OLD, samples=2)
    plan = edit.plan(TIMES, {"image": 0.0})
    setup_of(bench, [edit], plan).check()
    refuses("EDICT's second state knows nothing", setup_of(bench, [edit], plan, EDICT()))
    for wrong in (plan[2:], plan[:-1], up_and_down(TIMES[1:], ("image",)), plan[:4]):
        refuses("DiffEdit has moves of its own for 'image'", setup_of(bench, [edit], wrong))
    for name in ("DDNM", "ILVR", "Replacement"):
        mechanism = KINDS[name].make(bench, 1.0)
        said = f"DiffEdit encodes the picture itself, and {name} changes it on the way"
        refuses(said, setup_of(bench, [edit, mechanism], plan))
    fixed = FixedPoint(source="image", target=None)
    refuses("and FixedPoint changes it", setup_of(bench, [edit, fixed], plan))


@pytest.mark.parametrize("kind", ["PromptToPrompt", "PlugAndPlay", "MasaCtrl", "StyleInjection"])
def test_edits_walk_beside_what_they_look_at(bench, kind):
    mechanism = KINDS[kind].make(bench, 1.0)
    together = {"source": [0.9, 0.5, 0.0], "style": [0.9, 0.5, 0.0], "image": [0.9, 0.5, 0.0]}
    setup_of(bench, [mechanism], plans.path(together)).check()
    apart = plans.path({**together, "source": [0.9, 0.4, 0.0]})
    said = r"'source' is at t=0.4000 and 'image' at 0.5000; both need the same times"
    refuses(said, setup_of(bench, [mechanism], apart))
    if kind == "StyleInjection":
        apart = plans.path({**together, "style": [0.9, 0.4, 0.0]})
        refuses("'style' is at t=0.4000", setup_of(bench, [mechanism], apart))


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [True, False])
def test_windows_are_several_only_where_the_picture_is_larger(bench, wide):
    """What is about the whole is refused inside of windows, unless one window is the whole."""
    panorama, dps = KINDS["Panorama"].make(bench, 0.0), KINDS["DPS"].make(bench, 1.0)
    plan = plans.descend(TIMES, {"image": 1.0})
    setup = setup_of(bench, [panorama, dps], plan, sides=(8, 16) if wide else (8, 8))
    if wide:
        refuses("DPS is about the whole picture, but Panorama asks it", setup)
        setup_of(bench, [dps, panorama], plan, sides=(8, 16)).check()
    else:
        setup.check()


def test_what_is_shut_for_the_whole_run_does_not_mind_windows(bench):
    panorama, plan = KINDS["Panorama"].make(bench, 0.0), plans.descend(TIMES, {"image": 1.0})
    for name in ("DPS", "Layout", "Readout", "Regions", "PaintWithWords"):
        off = KINDS[name].make(bench, 0.0)
        setup_of(bench, [panorama, off], plan, sides=(8, 16)).check()


# --- held branches -------------------------------------------------------------------------------

ACTING = [
    *("DPS", "MCG", "PiGDM", "Universal", "Classifier", "Layout", "SelfGuidance", "Readout"),
    *("MagicFusion", "Composable", "SemanticGuidance", "NoiseCollage", "Regions", "DDNM", "DDRM"),
    *("ILVR", "CCDF", "PaintWithWords"),
]
PREDICTED = ("DPS", "MCG", "PiGDM", "Universal")
"""What a held, noisy branch serves: its prediction changes with what it looks at."""


def test_null_text_has_a_target(bench):
    state = setup_of(bench, [], up_and_down(TIMES, ("source", "image"))).state
    assert NullText(target="image").begin(state) is state
    with pytest.raises(ValueError, match="null-text inversion is asked of 'pose'"):
        NullText(target="pose").begin(state)


SCALED = (
    *("DPS", "MCG", "PiGDM", "Universal", "Classifier", "Reconstruction", "Layout"),
    *("SelfGuidance", "Readout", "PaintWithWords", "MagicFusion", "NoiseCollage", "Regions"),
)


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("name", SCALED)
def test_scales_are_finite_and_not_negative(bench, name, scale):
    with pytest.raises(
        ValueError, match=r" is -?[\d.infa]+; it must be 0 .off. or positive, and fin"
    ):
        KINDS[name].make(bench, scale)


@pytest.mark.parametrize("name", ["Regions", "NoiseCollage"])
def test_the_scene_weighs_a_finite_share(bench, name):
    with pytest.raises(ValueError, match="the weight of the scene is inf"):
        dataclasses.replace(KINDS[name].make(bench, 1.0), scene=float("inf"))


@pytest.mark.parametrize("name", ACTING)
def test_what_acts_on_a_held_branch_alone_is_refused(bench, name):
    def run_of(scale, start, hold=("depth",)):
        mechanism = dataclasses.replace(KINDS[name].make(bench, scale), branch="depth")
        plan = plans.descend(TIMES, {"image": 1.0, "depth": start}, hold)
        return setup_of(bench, [mechanism], plan)

    said = rf"{name} acts on branch 'depth', which this run holds at t={{}} .* moves \(image\)"
    refuses(said.format(0), run_of(1.0, 0.0))
    if name in PREDICTED:
        run_of(1.0, 0.3).check()
    else:
        refuses(said.format(0.3), run_of(1.0, 0.3))
    if KINDS[name].neutral and name not in ("DDNM", "ILVR"):  # their neutral is a shut window
        run_of(0.0, 0.0).check()
    run_of(1.0, 0.3, hold=()).check()


@pytest.mark.parametrize("name", ["PromptToPrompt", "PlugAndPlay", "MasaCtrl", "StyleInjection"])
def test_a_target_that_is_held_is_refused(bench, name):
    columns = {"source": [0.9, 0.5], "style": [0.9, 0.5], "image": [0.9, 0.9]}
    setup = setup_of(bench, [KINDS[name].make(bench, 1.0)], plans.path(columns))
    refuses(f"{name} acts on branch 'image', which this run holds at t=0.9", setup)


# --- through the public call ---------------------------------------------------------------------


def blended(bench):
    words = bench.places(NEW, "box")
    blend = LocalBlend(source=words, target=words, threshold=0.95)
    return PromptToPrompt(target="image", alignment=bench.alignment, blend=blend)


def of_edict(bench, *more):
    edit = plan_edit("edict", bench.model.backbone.schedule.times(4), target="image")
    shown = {"source": unicond.Reference(prompt=OLD, picture=picture(4))}
    call = {"image": picture(4), "references": shown, "plan": edit.plan, "solver": edit.solver}
    return {**call, "mechanisms": [*edit.mechanisms, *more]}


def of_diffedit(bench, *more):
    edit = DiffEdit(source=OLD, samples=1)
    plan = edit.plan(bench.model.backbone.schedule.times(4), {"image": 0.0})
    return {"image": picture(4), "plan": plan, "mechanisms": [edit, *more]}


def named_(bench, *names):
    return {"mechanisms": [KINDS[name].make(bench, 1.0) for name in names]}


def part(known=(1, 4, 8, 8), mask=(1, 1, 8, 8), value=1.0, noise=None):
    return {
        "mechanisms": [
            Replacement("image", torch.zeros(known), torch.full(mask, value), noise=noise)
        ]
    }


def guided_to(known=(1, 4, 8, 8), mask=(1, 1, 8, 8)):
    target = Target(branch="image", known=torch.zeros(known), mask=torch.ones(mask))
    return {"mechanisms": [Reconstruction([target])]}


def of_words(bench, samples, name, tokens=77, alone=False):
    """A method with words of so many samples, beside its own or alone."""
    mine = bench.places(NEW, "box").expand(samples, -1)[:, :tokens]
    one = KINDS[name].make(bench, 1.0)
    if name == "PromptToPrompt":
        kept = None if alone else one.alignment
        blend = LocalBlend(source=mine, target=mine)
        one = dataclasses.replace(one, alignment=kept, blend=blend)
    elif name == "MasaCtrl":
        one = dataclasses.replace(one, subject=Subject(source=mine, target=mine))
    elif name == "PaintWithWords":
        more = Painted(words=mine, mask=one.regions[0].mask)
        one = dataclasses.replace(one, regions=[*([] if alone else one.regions), more])
    elif name == "Layout":
        more = Placed(words=mine, box=(0.5, 0.0, 1.0, 1.0))
        one = dataclasses.replace(one, objects=[*([] if alone else one.objects), more])
    else:
        more = Position(words=mine, to=(0.5, 0.5))
        one = dataclasses.replace(one, terms=[*([] if alone else one.terms), more])
    beside = {"source": unicond.Reference(prompt=OLD)} if isinstance(one, Edit) else {}
    return {"references": beside, "mechanisms": [one]}


def of_another_head(bench):
    head = ReadoutHead(ReadoutConfig(kind="depth", blocks=(64,), channels=1, width=8))
    return {"mechanisms": [dataclasses.replace(KINDS["Readout"].make(bench, 1.0), head=head)]}


def held(bench):
    mechanism = dataclasses.replace(KINDS["DPS"].make(bench, 1.0), branch="depth")
    return {"depth": picture(1), "mechanisms": [mechanism]}


MARKED = ("PromptToPrompt", "MasaCtrl", "PaintWithWords", "Layout", "SelfGuidance")
CALLS = {
    "EDICT and a blend": (lambda b: of_edict(b, blended(b)), "EDICT walks with two states"),
    "EDICT and Direct": (lambda b: of_edict(b, Direct()), "Direct changes one of them in 'source'"),
    "DiffEdit": (lambda b: of_diffedit(b, KINDS["ILVR"].make(b, 1.0)), "ILVR changes it on the"),
    "windows": (lambda b: named_(b, "Panorama", "DPS"), "DPS is about the whole picture"),
    "maps of windows": (lambda b: named_(b, "Layout", "Panorama"), "Layout looks into the network"),
    "another branch": (
        lambda _: {"mechanisms": [Replacement("pose", torch.zeros(1), torch.zeros(1))]},
        "replacement is asked of 'pose', but the branches of this run are image",
    ),
    "a source that is not there": (
        lambda _: {"mechanisms": [Direct()]},
        "direct inversion is asked of 'source', but the branches of this run are image",
    ),
    "words of a source that is not there": (
        lambda _: {"mechanisms": [NullText(target="image")]},
        "null-text inversion is asked of 'source', but the branches of this run are image",
    ),
    "known of another size": (lambda _: part(known=(1, 4, 8, 4)), "what is known of 'image'"),
    "known of more samples": (lambda _: part(known=(2, 4, 8, 8)), "what is known of 'image'"),
    "a mask of another size": (lambda _: part(mask=(1, 1, 4, 4)), "the mask of 'image' has"),
    "a mask of more samples": (lambda _: part(mask=(2, 1, 8, 8)), "the mask of 'image' has"),
    "a mask that is none": (lambda _: part(value=5.0), "from 5 to 5; it must be in"),
    "noise of another size": (
        lambda _: part(noise=torch.zeros(1, 4, 4, 4)),
        r"what is known of 'image' has shape \(1, 4, 4, 4\).* replacement's noise needs",
    ),
    "guidance by another mask": (
        lambda _: guided_to(mask=(1, 1, 4, 4)),
        r"the mask of 'image' has shape \(1, 1, 4, 4\)",
    ),
    "guidance by more samples": (
        lambda _: guided_to(known=(2, 4, 8, 8)),
        "what is known of 'image' has shape",
    ),
    **{
        f"words of more samples, {name}": (
            lambda b, name=name: of_words(b, 2, name),
            "words are given for 2 samples, but this run has 1",
        )
        for name in MARKED
    },
    **{
        f"words of other tokenizers, {name}": (
            lambda b, name=name: of_words(b, 1, name, 70),
            "in prompts of 70 and of 77 tokens",
        )
        for name in MARKED
        if name != "MasaCtrl"
    },
    **{
        f"words of another tokenizer alone, {name}": (
            lambda b, name=name: of_words(b, 1, name, 70, alone=True),
            "words are marked in 70 tokens, but prompts have 77",
        )
        for name in MARKED
    },
    "a head of another network": (
        of_another_head,
        r"the readout head reads blocks of \(64,\) channels, and the network's have \(64, 32\)",
    ),
    "a held branch": (held, "DPS acts on branch 'depth', which this run holds at t=0 "),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_is_refused_before_the_network_is_asked(bench, case):
    call, said = CALLS[case]
    asked = []
    hook = bench.model.backbone.network.register_forward_pre_hook(lambda *_: asked.append(1))
    with pytest.raises(ValueError, match=said):
        bench.model(NEW, branches=["image"], **call(bench))
    hook.remove()
    assert not asked


# --- what is declared ----------------------------------------------------------------------------


class Watched:
    """A solver that remembers where its step led; not by the step that methods make themselves."""

    def step(self, predict, state, move):
        state, predictions = DDIM(eta=1.0).step(predict, state, move)
        self.led = state.latents
        return state, predictions


@pytest.mark.parametrize("name", [*KINDS, "LocalBlend"])
def test_what_is_declared_to_be_displaced_is_displaced(bench, name):
    mechanism = blended(bench) if name == "LocalBlend" else KINDS[name].make(bench, 1.0)
    call = {"image": unicond.Given(picture(4), noise=0.4)} if name == "CCDF" else {}
    beside = [b for b in ("source", "style") if hasattr(mechanism, b) and name != "SelfGuidance"]
    call["references"] = {branch: unicond.Reference(prompt=OLD) for branch in beside}
    solver, declared, found = Watched(), set(), set()

    def compare(progress):
        after = progress.state.latents
        moved = {b for b in after if not torch.equal(after[b], solver.led[b])}
        mine = set(mechanism.displaces(progress.move))
        assert moved <= mine
        declared.update(mine)
        found.update(moved)

    bench.model(
        NEW,
        branches=["image"],
        num_inference_steps=3,
        guidance_scale=1.0,
        solver=solver,
        mechanisms=[mechanism],
        callback=compare,
        **call,
    )
    assert found == declared
