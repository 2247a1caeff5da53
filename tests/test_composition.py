"""Mechanisms, branches and solvers together, through the public call: drawn pairs and triples."""

import copy
import random
from collections import defaultdict
from dataclasses import replace
from itertools import combinations, product

import pytest
import torch

import unicond
from drawn import ALONE, DRAWN, DRAWS, EDITS, HALF, MANNERS, PLANS, diffed, edited, times
from every_method import KINDS, NEW, OLD, RANKED, Bench, made_of, picture
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.mechanisms.attention.prompt_to_prompt import LocalBlend, PromptToPrompt
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.mechanisms.inversion.fixed_point import FixedPoint
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.model import Loaded, Model
from unicond.sampling.solvers import SOLVERS

GUIDED = (
    *("DPS", "MCG", "PiGDM", "Universal", "Reconstruction", "Layout", "SelfGuidance", "Readout"),
    *("MagicFusion", "Composable", "SemanticGuidance", "NoiseCollage", "Regions"),
    *("ConditionGuidance", "PerturbedAttention"),
)
"""What changes guided predictions alone."""
WHOLE = ("DPS", "MCG", "PiGDM", "Universal", "Reconstruction", "NoiseCollage", "Regions")
WRONG = {
    *product(["ClassifierFree"], GUIDED),
    *product(["Panorama"], WHOLE),
    *product(["ILVR", "CCDF", "Replacement", "MCG"], ["DDNM", "DDRM"]),
    *product(["NoiseCollage", "Regions"], ["MagicFusion"]),
    *product(["SelfGuidance", "Readout"], ["Layout"]),
}
"""Orders that are refused, the outer one first, of what goes together in the other one."""


@pytest.fixture(scope="module")
def bench(tiny):
    """The tiny model with one more adapter, of random weights: aligned poses."""
    config = JointConfig(
        y="pose",
        kind="pose",
        rank=2,
        y_rank=2,
        roles=("two_way", "condition_held", "image_held"),
        attention=("global", "aligned"),
    )
    adapter = JointAdapter.for_network(tiny.backbone.network, config)
    generator = torch.Generator().manual_seed(0)
    for value in adapter.parameters():
        torch.nn.init.normal_(value, std=0.1, generator=generator)
    pose = Loaded("here", adapter.requires_grad_(False).eval())
    return Bench(Model(tiny.backbone, {**tiny.adapters, "pose": pose}))


@pytest.fixture(scope="module")
def exact(bench):
    """The same model, whose network and adapters do not round: in double precision."""
    network = copy.deepcopy(bench.model.backbone.network).double()
    adapters = {
        branch: Loaded(one.source, copy.deepcopy(one.adapter).double())
        for branch, one in bench.model.adapters.items()
    }
    return Bench(Model(replace(bench.model.backbone, network=network), adapters))


@pytest.fixture
def asked(bench, exact):
    """The networks' calls, one entry each."""
    calls, networks = [], [each.model.backbone.network for each in (bench, exact)]
    hooks = [each.register_forward_pre_hook(lambda *_: calls.append(1)) for each in networks]
    yield calls
    for hook in hooks:
        hook.remove()


def test_everything_is_drawn():
    """Every way by everything, every solver, every manner, and every method that is neutral."""
    assert {name for one in DRAWN for name in one.names} == {*KINDS}
    assert {(one.way, one.kind) for one in DRAWN} == {*PLANS}
    assert {one.solver for one in DRAWN if one.way not in (edited, diffed)} == {*SOLVERS}
    found = {pair for one in DRAWN for pair in one.manners.items()}
    assert found == {(name, how) for name, several in MANNERS.items() for how in several}
    neutral = {name for name in KINDS if KINDS[name].neutral} | {*EDITS} - {"StyleInjection"}
    assert {one.neutral for one in DRAWN} == neutral


def of(names, order):
    return [name for name in order if name in names]


def disordered(generator, names):
    """An order of all in which some do not stand as they usually do."""
    order = RANKED
    while of(names, order) == of(names, RANKED):
        order = generator.sample(RANKED, len(RANKED))
    return order


# --- the property --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "ranked"),
    [
        *((number, True) for number in range(DRAWS)),
        *((number, False) for number in range(0, DRAWS, 3)),
        *(pytest.param(n, False, marks=pytest.mark.slow) for n in range(DRAWS) if n % 3),
    ],
)
def test_drawn_compositions(bench, exact, asked, number, ranked):
    """No crash; held parts held; neutral is absent; a sample alone is as in a batch.

    In any other order too, but for those that are refused before the network is asked. EDICT goes
    back by what it went: it multiplies whatever a batch rounds otherwise by about 15 a step on this
    random network (0.036 of the source's 0.13 in float32, nothing in double).
    """
    generator, one = random.Random(number), DRAWN[number]
    names, neutral = one.names, one.neutral
    bench = exact if one.kind == "edict" else bench
    call, before, after = one.way(bench, generator, one)
    call["guidance_scale"] = generator.choice([1.0, 3.0])
    order = RANKED if ranked else disordered(generator, names)
    seen = defaultdict(list)

    def note(progress):
        for branch, latents in progress.state.latents.items():
            seen[branch].append(latents.clone())

    def run(seeds, more=(), **options):
        mine = [one.made(bench, each) for each in made_of(bench, names, more, order)]
        mechanisms = [*before, *mine, *after]
        return bench.model([NEW] * len(seeds), seed=seeds, mechanisms=mechanisms, **call, **options)

    drawn = of(names, order)
    if not WRONG.isdisjoint(combinations(drawn, 2)):
        with pytest.raises(ValueError, match=r"put .* (before|after)"):
            run([5])
        assert not asked
        return
    out = run([5, 6], callback=note)
    said = f"{one.kind} {drawn} {sorted(call)} {call['solver']}"
    for branch, latents in out.latents.items():
        assert latents.isfinite().all(), said
        if branch not in out.record.generated:
            assert all(torch.equal(one, seen[branch][0]) for one in seen[branch]), said
            assert torch.equal(out.pictures[branch][0], _shown(call[branch])), said
    _check_known(bench, call, out)
    alone, twin = run([5]), run([5], [neutral])
    for branch, latents in alone.latents.items():
        assert torch.equal(twin.latents[branch], latents), f"{neutral} is not absent: {said}"
        gap = float((out.latents[branch][:1] - latents).abs().max())
        # float32's rounding across batch sizes, which grows with what guidance blows up
        assert gap < 1e-4 * max(1.0, float(latents.abs().max())), f"{branch} {gap}: {said}"


def _shown(given):
    return given.picture if isinstance(given, unicond.Given) else given


@torch.no_grad()
def _check_known(bench, call, out):
    """What a mask says is known ends as it was given."""
    for branch, latents in out.latents.items():
        one = call.get(branch)
        if isinstance(one, unicond.Given) and one.mask is not None:
            known = bench.model.backbone.encode(one.picture[None])
            inside = HALF[..., ::8, ::8].expand_as(latents) > 0
            assert torch.equal(latents[inside], known.expand_as(latents)[inside])


# --- what does not go together -------------------------------------------------------------------


def named(bench, *names):
    """Mechanisms in the order of the names."""
    return [KINDS[name].make(bench, 1.0) for name in names]


def blended(bench):
    words = bench.places(NEW, "box")
    blend = LocalBlend(source=words, target=words)
    return PromptToPrompt(target="image", alignment=bench.alignment, blend=blend)


REFUSED = {
    "two that make the steps": (["DDNM", "DDRM"], "both make the steps of 'image'"),
    "ILVR undone": (["ILVR", "DDNM"], "would undo that: put DDNM before ILVR"),
    "MCG's projection undone": (["MCG", "DDNM"], "put DDNM before MCG in the list"),
    "replacement undone": (["Replacement", "DDRM"], "put DDRM before Replacement"),
    "regions of windows": (["Panorama", "Regions"], "Regions is about the whole picture"),
    "collage of windows": (["Panorama", "NoiseCollage"], "put Panorama after it in the list"),
    "DPS of windows": (["Panorama", "DPS"], "DPS is about the whole picture"),
    "MCG of windows": (["Panorama", "MCG"], "MCG is about the whole picture"),
    "PiGDM of windows": (["Panorama", "PiGDM"], "PiGDM is about the whole picture"),
    "an energy of windows": (["Panorama", "Universal"], "Universal is about the whole picture"),
    "known windows": (["Panorama", "Reconstruction"], "Reconstruction is about the whole"),
    "Layout of windows": (["Panorama", "Layout"], "leave Panorama out, or say what belongs where"),
    "Layout outside of windows": (["Layout", "Panorama"], "leave Panorama out"),
    "positions in windows": (["Panorama", "SelfGuidance"], "SelfGuidance looks into the network"),
    "positions outside of windows": (["SelfGuidance", "Panorama"], "leave Panorama out"),
    "readings of windows": (["Panorama", "Readout"], "Readout looks into the network"),
    "readings outside of windows": (["Readout", "Panorama"], "leave Panorama out"),
    "words in windows": (["Panorama", "PaintWithWords"], "PaintWithWords looks into the network"),
    "words outside of windows": (["PaintWithWords", "Panorama"], "leave Panorama out"),
    "regions of a second model": (["Regions", "MagicFusion"], "put MagicFusion before Regions"),
    "a second model's collage": (["NoiseCollage", "MagicFusion"], "put MagicFusion before NoiseC"),
    "positions of many calls": (["SelfGuidance", "Layout"], "put Layout before SelfGuidance in"),
    "readings of many calls": (["Readout", "Layout"], "put Layout before Readout in the list"),
    **{
        f"{name} of bare predictions": (["ClassifierFree", name], f"put {name} before ClassifierF")
        for name in GUIDED
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused(bench, asked, case):
    names, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        bench.model(NEW, branches=ALONE, num_inference_steps=1, mechanisms=named(bench, *names))
    assert not asked


@pytest.mark.parametrize("order", [1, -1])
def test_words_are_not_looked_for_in_windows(bench, order):
    both = [blended(bench), *named(bench, "Panorama")][::order]
    beside = {"source": unicond.Reference(prompt=OLD)}
    with pytest.raises(ValueError, match="leave Panorama out"):
        bench.model(NEW, branches=ALONE, references=beside, num_inference_steps=1, mechanisms=both)


def go_edited(bench, method, *more, **options):
    edit = plan_edit(method, times(bench)[-2:], target="image")
    beside = {"source": unicond.Reference(prompt=OLD, picture=picture(4))}
    return bench.model(
        NEW,
        branches=ALONE,
        references=beside,
        plan=edit.plan,
        solver=edit.solver,
        guidance_scale=2.0,
        mechanisms=[*edit.mechanisms, *more, *edit.inner],
        **{"image": picture(4), **options},
    )


@pytest.mark.parametrize("name", ["DDNM", "DPS", "Layout", "ILVR", "Replacement"])
def test_the_two_states_of_edict_are_not_mended(bench, name):
    with pytest.raises(ValueError, match="EDICT walks with two states"):
        go_edited(bench, "edict", *named(bench, name))


def test_one_inversion_is_enough(bench):
    with pytest.raises(ValueError, match="FixedPoint is a second inversion"):
        go_edited(bench, "ddim", FixedPoint(target="image"))


def test_null_text_is_fitted_on_the_whole_picture(bench):
    with pytest.raises(ValueError, match="NullText is about the whole picture"):
        go_edited(bench, "null_text", *named(bench, "Panorama"))


@pytest.mark.parametrize("name", ["DDNM", "ILVR", "Replacement"])
def test_diffedit_encodes_the_picture_itself(bench, name):
    edit = DiffEdit(source=OLD, samples=1)
    plan = edit.plan(times(bench), {"image": 0.0})
    both = [edit, *named(bench, name)]
    with pytest.raises(ValueError, match=f"and {name} changes it on the way"):
        bench.model(NEW, branches=ALONE, image=picture(4), plan=plan, mechanisms=both)


def check_starts_where_the_source_does(progress):
    """On the way up the target is the source, bit for bit."""
    state, move = progress.state, progress.move
    if move.rises("image"):
        assert torch.equal(state.latents["image"], state.latents["source"]), move.s


@pytest.mark.parametrize(
    "name",
    [
        *("DPS", "MCG", "PiGDM", "Universal", "Classifier", "Reconstruction", "Readout"),
        *("ILVR", "Replacement"),
    ],
)
def test_guidance_rests_while_a_picture_goes_up(bench, name):
    """Its edit starts where it is, and it comes back as without, whatever is done to the edit."""
    plain = go_edited(bench, "ddim")
    watch = check_starts_where_the_source_does
    guided = go_edited(bench, "ddim", *named(bench, name), callback=watch)
    assert torch.equal(plain.latents["source"], guided.latents["source"])
    assert not torch.equal(plain.latents["image"], guided.latents["image"])


@torch.no_grad()
def test_an_edit_under_a_mask_starts_where_the_whole_picture_leads(bench):
    """Its known part is put back on the way down, and ends as it was given."""
    masked = unicond.Given(picture(4), mask=HALF[0])
    out = go_edited(bench, "ddim", image=masked, callback=check_starts_where_the_source_does)
    assert torch.equal(go_edited(bench, "ddim").latents["source"], out.latents["source"])
    _check_known(bench, {"image": masked}, out)


def test_a_second_model_is_not_looked_into(bench):
    """Words painted into the run's network are none of the other's, in either order."""
    call = {"branches": ALONE, "num_inference_steps": 2, "seed": 5}
    names = ["PaintWithWords", "MagicFusion"]
    one, other = (
        bench.model(NEW, mechanisms=named(bench, *order), **call).latents["image"]
        for order in (names, names[::-1])
    )
    assert (one - other).abs().max() < 1e-4 * one.std()
