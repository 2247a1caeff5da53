"""Attention manipulation on the tiny base: neutral and full cases, and each formula made again."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from unicond.adapters.attach import attached
from unicond.denoisers.network import NetworkDenoiser, Pairing, keeper
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.editing import Edit
from unicond.mechanisms.attention.maps import Gathered
from unicond.mechanisms.attention.masactrl import MasaCtrl, Subject
from unicond.mechanisms.attention.paint_with_words import Painted, PaintWithWords
from unicond.mechanisms.attention.plug_and_play import PlugAndPlay
from unicond.mechanisms.attention.prompt_to_prompt import LocalBlend, PromptToPrompt
from unicond.mechanisms.attention.style_injection import StyleInjection, adain
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.sampling import plans
from unicond.sampling.controls import Recorder, acting, in_action
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.schedules import FlowSchedule
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Move, State, numbered
from unicond.sampling.window import ALWAYS, Window

OLD, NEW = "a red ball", "a big red box"
PLAIN = (Variant(),)
TIMES = [0.9, 0.6, 0.3]
NEVER = Window.steps(9, 99)
ALL = (0.0, 1.0)
BLEND = 0.98  # a random network's maps are nearly even


class Beside(Edit):
    """Two branches that start alike, and no more."""

    def acts(self, move):
        return False


def denoiser_of(tiny, prompts, **options):
    table = {
        "positive": {b: tiny.backbone.encode_prompts([text]) for b, text in prompts.items()},
        "negative": dict.fromkeys(prompts, tiny.backbone.encode_negative("")),
    }
    return NetworkDenoiser(tiny.backbone.network, table, **options)


def state_of(tiny, branches, t=TIMES[0], seeds=(0, 1)):
    noise = Generators(seeds, branches)
    latents = {b: noise.draw(b, torch.zeros(len(seeds), 4, 8, 8)) for b in branches}
    return State(latents, dict.fromkeys(branches, t), tiny.backbone.schedule, noise)


@torch.no_grad()
def walked(tiny, *mechanisms, old=OLD, new=NEW, more=None, seeds=(0, 1), guidance=2.0, plan=None):
    """{branch: latents} at the end of three guided steps."""
    prompts = {"source": old, "target": new, **(more or {})}
    state = state_of(tiny, tuple(prompts), seeds=seeds)
    plan = plan or plans.path({b: [*TIMES, 0.0] for b in prompts})
    denoiser = denoiser_of(tiny, prompts)
    *_, last = run(state, denoiser, plan, DDIM(), [*mechanisms, ClassifierFree(guidance)])
    return last.state.latents


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return tiny.backbone.tokenizers[0]


@pytest.fixture(scope="module")
def kinds(tokenizer):
    """One of each, wide open, for prompts OLD and NEW."""
    subject = Subject(
        source=words.places(tokenizer, OLD, ["ball"]), target=words.places(tokenizer, NEW, ["box"])
    )
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    return {
        "refine": PromptToPrompt(
            alignment=words.refined(tokenizer, OLD, NEW), cross_maps=ALWAYS, self_maps=ALWAYS
        ),
        "reweight": PromptToPrompt(
            scales=words.scales(tokenizer, NEW, {"red": 3.0}), cross_maps=ALWAYS, self_maps=NEVER
        ),
        "blend": PromptToPrompt(
            alignment=words.refined(tokenizer, OLD, NEW),
            blend=LocalBlend(source=subject.source, target=subject.target, threshold=BLEND),
        ),
        "pnp": PlugAndPlay(features=ALWAYS, attention=ALWAYS),
        "masactrl": MasaCtrl(window=ALWAYS, layers=ALL),
        "masks": MasaCtrl(window=ALWAYS, layers=ALL, subject=replace(subject, threshold=0.6)),
        "style": StyleInjection(style="other", layers=ALL),
        "paint": PaintWithWords(
            branch="target", scale=2.0, regions=[Painted(words=subject.target, mask=left)]
        ),
    }


ACTIVE = ["refine", "reweight", "blend", "pnp", "masactrl", "masks", "style", "paint"]


def beside(name):
    """What a mechanism needs around it: a third branch, or a start in common."""
    more = {"other": "a blue cone"} if name == "style" else None
    return {"more": more}, ([Beside()] if name == "paint" else [])


@pytest.mark.parametrize("name", ACTIVE)
def test_the_target_changes_and_the_source_does_not(tiny, kinds, name):
    options, extra = beside(name)
    alone = walked(tiny, Beside(), **options)
    edited = walked(tiny, *extra, kinds[name], **options)
    assert torch.equal(alone["source"], edited["source"])
    assert (alone["target"] - edited["target"]).abs().max() > 1e-3
    again = walked(tiny, *extra, kinds[name], **options)
    assert torch.equal(edited["target"], again["target"])


@pytest.mark.parametrize("name", ACTIVE)
def test_a_sample_alone_and_in_a_batch_is_the_same(tiny, kinds, name):
    options, extra = beside(name)
    both = walked(tiny, *extra, kinds[name], **options)["target"]
    for row in (0, 1):
        one = walked(tiny, *extra, kinds[name], seeds=(row,), **options)["target"]
        torch.testing.assert_close(both[row : row + 1], one, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("refine", {"cross_maps": NEVER, "self_maps": NEVER}),
        ("refine", {"cross_maps": Window.share(0, 0), "self_maps": Window.share(0, 0)}),
        ("reweight", {"scales": torch.ones(1, 77)}),
        ("blend", {"cross_maps": NEVER, "self_maps": NEVER, "blend": None}),
        ("pnp", {"features": NEVER, "attention": NEVER}),
        ("pnp", {"feature_layers": (0.0, 0.0), "attention_layers": (0.0, 0.0)}),
        ("masactrl", {"window": Window.steps(len(TIMES), 99)}),
        ("masks", {"window": Window.steps(len(TIMES), 99)}),  # it looks at maps, to no effect
        ("style", {"window": NEVER, "adain": False}),
        ("style", {"style": "target", "gamma": 0.0, "tau": 1.0, "adain": False}),
        ("paint", {"scale": 0.0}),
        ("paint", {"regions": ()}),
    ],
)
def test_neutral_is_absent_bit_for_bit(tiny, kinds, name, neutral):
    options, extra = beside(name)
    alone = walked(tiny, Beside(), **options)
    found = walked(tiny, *extra, replace(kinds[name], **neutral), **options)
    assert all(torch.equal(alone[b], found[b]) for b in alone)


def test_an_edit_to_the_same_prompt_changes_nothing(tiny, tokenizer, kinds):
    """All that is read equals what it replaces: bit for bit where no map is multiplied again."""
    subject = words.places(tokenizer, OLD, ["ball"])
    exact = [
        replace(kinds["pnp"], feature_layers=ALL, attention_layers=ALL),
        kinds["masactrl"],
        StyleInjection(style="source", gamma=1.0, tau=1.0, layers=ALL, adain=False),
        PromptToPrompt(blend=LocalBlend(source=subject, target=subject), self_maps=NEVER),
    ]
    for one in exact:
        found = walked(tiny, one, new=OLD)
        assert torch.equal(found["source"], found["target"]), one
    everything = {"cross_maps": ALWAYS, "self_maps": ALWAYS}
    near = [
        PromptToPrompt(alignment=words.swapped(tokenizer, OLD, OLD), **everything),
        PromptToPrompt(alignment=words.refined(tokenizer, OLD, OLD), **everything),
    ]
    for one in near:
        found = walked(tiny, one, new=OLD)
        torch.testing.assert_close(found["source"], found["target"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "strength"), [("ddim", 1.0), ("edict", 0.7), ("edit_friendly", 0.64)]
)
def test_usual_windows_are_shares_of_the_edits_own_way_down(method, strength):
    """Of 50 times, as many are gone as the strength says; papers count these."""
    times = [1 - n / 50 for n in range(50)]
    plan = numbered(plan_edit(method, times, strength=strength).plan)
    down = [move for move in plan if move.falls("target")]
    count = round(50 * strength)
    assert len(down) == count
    p2p, pnp, masa = PromptToPrompt(), PlugAndPlay(), MasaCtrl()
    for window, share in [
        (p2p.cross_maps, 0.8),
        (p2p.self_maps, 0.4),
        (pnp.features, 0.8),
        (pnp.attention, 0.5),
    ]:
        active = [window.active(move, "target") for move in down]
        assert active == [n < share * count for n in range(count)]
    assert [masa.window.active(move, "target") for move in down].index(True) == math.ceil(
        0.08 * count
    )


class Layers:
    """Inputs and outputs of attention modules, and their formula computed the long way."""

    def __init__(self, tiny, kind):
        self.network = tiny.backbone.network
        last = "attn2" if kind == "cross" else "attn1"
        self.names = [n for n, _ in self.network.named_modules() if n.endswith(last)]
        self.seen = {}

    def __enter__(self):
        def hook(name):
            def keep(_, arguments, options, output):
                self.seen[name] = (arguments[0], options.get("encoder_hidden_states"), output)

            return keep

        self.hooks = [
            self.network.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
            for name in self.names
        ]
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def heads(self, name):
        """`q, k, v` (rows, heads, tokens, width) of a layer."""
        attn, (h, context, _) = self.network.get_submodule(name), self.seen[name]
        context = h if context is None else context
        made = (attn.to_q(h), attn.to_k(context), attn.to_v(context))
        return [attn.head_to_batch_dim(one).unflatten(0, (len(h), attn.heads)) for one in made]

    def out(self, name, looked):
        """The layer's output of attention (n, heads, tokens, width)."""
        attn = self.network.get_submodule(name)
        return attn.to_out[0](attn.batch_to_head_dim(looked.flatten(0, 1)))


@torch.no_grad()
def inside(tiny, mechanism, kind, more=None, state=None):
    """One call under a mechanism, source and target at different latents: rows are s, t, others."""
    prompts = {"source": OLD, "target": NEW, **(more or {})}
    state = state or state_of(tiny, tuple(prompts))
    move = Move(dict.fromkeys(prompts, 0.9), dict.fromkeys(prompts, 0.6), number=1, count=3)
    with Layers(tiny, kind) as layers:
        mechanism.wrap(denoiser_of(tiny, prompts), move)(state, [Variant()])
    return layers


S, T, OTHER = slice(0, 2), slice(2, 4), slice(4, 6)


def attention(q, k, v, bias=0.0, factor=1.0):
    return (factor * q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias).softmax(-1) @ v


def maps_of(q, k):
    return attention(q, k, torch.eye(k.shape[2]).expand(*k.shape[:2], -1, -1))


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_prompt_to_prompt_is_its_formula(tiny, tokenizer, kinds):
    """Token by token: a shared token's map is the source's at its own place, times its factor."""
    factors = words.scales(tokenizer, NEW, {"red": 3.0, "box": 0.5})
    alignment = words.refined(tokenizer, OLD, NEW)
    alignment.shared[0, 6] = 0.25  # a token may share in part
    edit = replace(kinds["refine"], scales=factors, alignment=alignment)
    layers = inside(tiny, edit, "cross")
    # "a" stays, "b i g" is new, "r e d" moves from 2-4 to 5-7, "b o x" is new; then the end
    place = {0: 0, 1: 1, 5: 2, 6: 3, 7: 4} | {11 + i: 9 + i for i in range(66)}
    for name in layers.names:
        q, k, v = layers.heads(name)
        source, target = maps_of(q[S], k[S]), maps_of(q[T], k[T])
        for token in range(77):
            if token in place:
                share = 0.25 if token == 6 else 1.0
                old = source[..., place[token]]
                target[..., token] = share * old + (1 - share) * target[..., token]
            target[..., token] *= factors[0, token]
        near(layers.seen[name][2][T], layers.out(name, target @ v[T]))
    layers = inside(tiny, edit, "self")
    for name in layers.names:
        q, k, v = layers.heads(name)
        near(layers.seen[name][2][T], layers.out(name, attention(q[S], k[S], v[T])))


@torch.no_grad()
def test_self_maps_are_exchanged_up_to_the_largest(tiny, kinds):
    layers = inside(tiny, replace(kinds["refine"], largest=63), "self")
    for name in layers.names:
        q, k, v = layers.heads(name)
        small = q.shape[2] < 64
        expected = attention(q[S], k[S], v[T]) if small else attention(q[T], k[T], v[T])
        near(layers.seen[name][2][T], layers.out(name, expected))


@torch.no_grad()
def test_all_of_the_sources_self_attention_is_its_output_bit_for_bit(tiny, kinds):
    """Queries and keys by plug-and-play, values by MasaCtrl: together all of attention."""

    class Both:
        def wrap(self, denoiser, move):
            pnp = replace(kinds["pnp"], features=NEVER, attention_layers=ALL)
            return pnp.wrap(kinds["masactrl"].wrap(denoiser, move), move)

    layers = inside(tiny, Both(), "self")
    up = [name for name in layers.names if name.startswith("up")]
    assert up
    for name in up:
        h, _, output = layers.seen[name]
        assert torch.equal(output[S], output[T])
        assert not torch.allclose(h[S], h[T], atol=1e-2)


@torch.no_grad()
def test_plug_and_play_is_its_formula(tiny, kinds):
    layers = inside(tiny, replace(kinds["pnp"], attention_layers=ALL), "self")
    for name in layers.names:
        q, k, v = layers.heads(name)
        read = S if name.startswith("up") else T
        near(layers.seen[name][2][T], layers.out(name, attention(q[read], k[read], v[T])))
    recorder = Recorder("target", where=lambda one: one.kind == "residual")
    other = Recorder("source", where=recorder.where)
    denoiser = denoiser_of(tiny, {"source": OLD, "target": NEW})

    def watched(state, variants=PLAIN):
        with acting(recorder, other):  # inside: after the injection
            return denoiser(state, variants)

    move = Move({"source": 0.9, "target": 0.9}, {"source": 0.6, "target": 0.6})
    kinds["pnp"].wrap(watched, move)(state_of(tiny, ("source", "target")))
    alike = [one for one, f in recorder.found.items() if torch.equal(f, other.found[one])]
    assert [(one.part, one.number, one.count) for one in alike] == [("up", 1, 4)]


@torch.no_grad()
def test_masactrl_with_masks_is_two_attentions(tiny, tokenizer, kinds):
    """Foreground keys alone, background keys alone, put together by the target's mask."""
    edit, gathered = kinds["masks"], Gathered()
    for branch in ("source", "target"):
        maps = torch.rand(2, 77, 8, 8, generator=torch.Generator().manual_seed(len(branch)))
        gathered.add(branch, (8, 8), maps)
        gathered.add(branch, (8, 8), maps)
    start = state_of(tiny, ("source", "target")).remember(edit._key, gathered)

    def foreground(branch, marked, side):
        one = 0.5 * (gathered.sums[branch, (8, 8)] * marked[..., None, None]).sum(1, keepdim=True)
        one = F.interpolate(one, (side, side), mode="bilinear").flatten(1)
        low, high = one.amin(1, keepdim=True), one.amax(1, keepdim=True)
        return (one - low) / (high - low) >= 0.6

    expected = {
        side: [
            foreground(branch, getattr(edit.subject, branch), side)
            for branch in ("source", "target")
        ]
        for side in (8, 4)
    }
    layers = inside(tiny, edit, "self", state=start)
    for name in [name for name in layers.names if name.startswith("up")]:
        q, k, v = layers.heads(name)
        source, target = expected[math.isqrt(q.shape[2])]
        assert 0 < source.float().mean() < 1
        only = [torch.where(kind, 0.0, -torch.inf)[:, None, None] for kind in (source, ~source)]
        one, other = (attention(q[T], k[S], v[S], bias) for bias in only)
        looked = torch.where(target[:, None, :, None], one, other)
        near(layers.seen[name][2][T], layers.out(name, looked))
        near(layers.seen[name][2][S], layers.out(name, attention(q[S], k[S], v[S])))


@torch.no_grad()
def test_style_injection_is_its_formula(tiny, kinds):
    layers = inside(tiny, kinds["style"], "self", {"other": "a blue cone"})
    for name in [name for name in layers.names if name.startswith("up")]:
        q, k, v = layers.heads(name)
        mixed = 0.75 * q[S] + 0.25 * q[T]
        near(
            layers.seen[name][2][T],
            layers.out(name, attention(mixed, k[OTHER], v[OTHER], factor=1.5)),
        )


@torch.no_grad()
def test_paint_with_words_is_its_formula(tiny, tokenizer, kinds):
    layers = inside(tiny, kinds["paint"], "cross")
    box = words.places(tokenizer, NEW, ["box"])[0]
    alpha = tiny.backbone.schedule.alpha(0.9)
    weight = 2.0 * math.log(1 + tiny.backbone.schedule.sigma(0.9) / alpha)
    for name in layers.names:
        q, k, v = layers.heads(name)
        side = math.isqrt(q.shape[2])
        left = (torch.arange(side * side) % side < side / 2).float()
        for row in (2, 3):
            scores = q[row] @ k[row].transpose(-1, -2)
            bias = weight * scores.max() * left[:, None] * box / math.sqrt(q.shape[-1])
            expected = attention(q[row : row + 1], k[row : row + 1], v[row : row + 1], bias)
            near(layers.seen[name][2][row : row + 1], layers.out(name, expected))


def test_pure_noise_paints_with_a_finite_weight(tiny, kinds):
    state, seen = state_of(tiny, ("source", "target"), t=1.0), []
    zero = FlowSchedule()
    assert zero.alpha(1.0) == 0

    def denoiser(state, variants=PLAIN):
        seen.extend(one.weight for one in in_action())
        return []

    move = Move({"source": 1.0, "target": 1.0}, {"source": 0.9, "target": 0.9})
    kinds["paint"].wrap(denoiser, move)(replace(state, schedule=zero))
    assert seen == [2.0 * math.log(16.0)]


def test_the_blend_keeps_the_source_outside_of_the_words(tiny, kinds):
    """Where the mask is 0 the target is the source, bit for bit; inside it is not."""
    found = walked(tiny, kinds["blend"])
    same = (found["source"] == found["target"]).all(1)
    assert 0 < same.float().mean() < 1
    everywhere = replace(kinds["blend"], blend=replace(kinds["blend"].blend, threshold=0.0))
    assert torch.equal(
        walked(tiny, everywhere)["target"],
        walked(tiny, replace(kinds["blend"], blend=None))["target"],
    )


@pytest.mark.parametrize("own", ["source", "target"])
def test_the_blends_mask_is_its_formula(tiny, kinds, own):
    """Mean maps, the largest of nine neighbours, by each sample's peak, in one branch or other."""
    edit, gathered, threshold = kinds["blend"], Gathered(), 0.8
    edit = replace(edit, blend=replace(edit.blend, threshold=threshold))
    move = Move(*({"source": t, "target": t} for t in (0.6, 0.5)), shares={"target": 0.5})
    for seed, branch in enumerate(("source", "target")):
        noise = torch.Generator().manual_seed(seed)
        for _ in range(3):
            maps = torch.rand(2, 77, 8, 8, generator=noise) ** (4 if branch == own else 60)
            maps[1] *= 0.1
            gathered.add(branch, (8, 8), maps)
    start = state_of(tiny, ("source", "target")).remember(edit._key, gathered)

    def there(branch, marked):
        mean = (gathered.sums[branch, (8, 8)] / 3 * marked[..., None, None]).sum(1)
        found = torch.zeros(2, 8, 8, dtype=torch.bool)
        for sample, y, x in itertools.product(range(2), range(8), range(8)):
            around = mean[sample, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
            found[sample, y, x] = around / mean[sample].max() > threshold
        return found

    both = {branch: there(branch, getattr(edit.blend, branch)) for branch in ("source", "target")}
    want = (both["source"] | both["target"])[:, None]
    assert all(bool((one != want[:, 0]).any()) for one in both.values())
    assert 0 < want.float().mean() < 1
    after = edit.settle(start, {}, move).latents
    mixed = torch.where(want, start.latents["target"], start.latents["source"])
    assert torch.equal(after["target"], mixed)
    assert torch.equal(after["source"], start.latents["source"])


def test_gathered_maps_are_means_over_calls_and_layers():
    gathered, marked = Gathered(), torch.tensor([[0.0, 1.0, 1.0]])
    gathered.add("a", (4, 4), torch.full((2, 3, 4, 4), 0.1))
    gathered.add("a", (4, 4), torch.full((2, 3, 4, 4), 0.3))
    gathered.add("a", (2, 2), torch.full((2, 3, 2, 2), 0.5))
    torch.testing.assert_close(gathered.of("a", marked, (8, 6)), torch.full((2, 1, 8, 6), 0.6))
    assert gathered.of("b", marked, (8, 6)) is None
    with pytest.raises(ValueError, match="marked in 4 tokens, but prompts have 3"):
        gathered.of("a", torch.ones(1, 4), (8, 8))


def test_the_target_follows_the_source_up_and_starts_at_the_styles_statistics(tiny):
    """Up and down again, the target under other words: at the top it is the source."""
    branches = ("source", "target", "other")
    times = [0.1, 0.5, 0.9, 0.5]
    plan = plans.path(dict.fromkeys(branches, times))
    more = {"other": "a blue cone"}

    def at_the_top(*mechanisms):
        state = state_of(tiny, branches, t=0.1)
        denoiser = denoiser_of(tiny, {"source": OLD, "target": NEW, **more})
        with torch.no_grad():
            return list(run(state, denoiser, plan, DDIM(), mechanisms))[1].state.latents

    found = at_the_top(PlugAndPlay())
    assert torch.equal(found["source"], found["target"])
    assert not torch.equal(found["source"], found["other"])
    found = at_the_top(StyleInjection(style="other"))
    content, style, target = (found[b] for b in ("source", "other", "target"))
    for of in (torch.mean, torch.std):
        torch.testing.assert_close(of(target, (2, 3)), of(style, (2, 3)))
    correlation = F.cosine_similarity(
        *((one - one.mean((2, 3), keepdim=True)).flatten(2) for one in (content, target)), dim=-1
    )
    torch.testing.assert_close(correlation, torch.ones(2, 4))
    torch.testing.assert_close(adain(content, content), content)


@torch.no_grad()
def test_beside_joint_attention_and_held_branches(tiny, kinds):
    """The target under a held depth map: kept rows give the numbers of recomputed ones."""
    branches = ("source", "target", "depth")
    prompts = {"source": OLD, "target": NEW, "depth": "depth_map"}
    pairings = [Pairing("depth", "target", "depth", deaf=frozenset({"depth"}))]
    state = state_of(tiny, branches)
    state = state.at(state.latents, {**state.t, "depth": 0.0})
    plan = plans.path({"source": [*TIMES, 0.0], "target": [*TIMES, 0.0], "depth": [0.0] * 4})

    def result(cache, *mechanisms):
        kept = keeper(cache, None, ["depth"], pairings)
        denoiser = denoiser_of(tiny, prompts, pairings=pairings, keeper=kept)
        everything = [*mechanisms, ClassifierFree(2.0)]
        with attached(tiny.backbone.network, {"depth": tiny.adapters["depth"].adapter}):
            *_, last = run(state, denoiser, plan, DDIM(), everything)
        return last.state.latents

    alone = result(True, Beside())
    for name in ("refine", "masks", "pnp"):
        recomputed, kept = (result(cache, kinds[name]) for cache in (False, True))
        torch.testing.assert_close(kept["target"], recomputed["target"], rtol=0, atol=1e-4)
        torch.testing.assert_close(kept["source"], alone["source"], rtol=0, atol=1e-5)
        assert (kept["target"] - alone["target"]).abs().max() > 1e-3
        assert torch.equal(kept["depth"], state.latents["depth"])
    wrong = PlugAndPlay(source="depth", target="target")
    with pytest.raises(ValueError, match=r"'depth' is at t=0.0000 and 'target' at 0.9000"):
        result(True, wrong)


def test_what_does_not_fit_is_refused(tiny, tokenizer, kinds):
    with pytest.raises(ValueError, match="both 'image'; an edit needs two branches"):
        PlugAndPlay(source="image", target="image")
    with pytest.raises(ValueError, match="no branch 'other' in this run"):
        walked(tiny, kinds["style"])
    for wrong in ({"gamma": 1.5}, {"tau": 0.0}, {"layers": (0.5, 0.2)}):
        with pytest.raises(ValueError, match=r"gamma is|tau is|layers is"):
            replace(kinds["style"], **wrong)
    with pytest.raises(ValueError, match="for 1 prompts of 7 tokens, but this run has 2 samples"):
        walked(tiny, PromptToPrompt(scales=torch.full((1, 7), 2.0)))
    wide = Painted(words=torch.ones(1, 77), mask=torch.ones(1, 1, 8, 16))
    with pytest.raises(ValueError, match=r"mask is \(1, 1, 8, 16\), but the latents are \(8, 8\)"):
        walked(tiny, Beside(), PaintWithWords(branch="target", regions=[wide]))
    with pytest.raises(ValueError, match=r"1 .white. somewhere"):
        Painted(words=torch.ones(1, 77), mask=torch.zeros(1, 1, 8, 8))
    half, some = torch.ones(2, 1, 8, 8), torch.ones(2, 77)
    half[1], some[1] = 0.0, 0.0  # nothing of the second sample
    with pytest.raises(ValueError, match=r"1 .white. somewhere"):
        Painted(words=torch.ones(1, 77), mask=half)
    with pytest.raises(ValueError, match=r"words are .* with 1 at some of each"):
        Painted(words=some, mask=torch.ones(1, 1, 8, 8))
    for subject, branch in itertools.product((Subject, LocalBlend), ("source", "target")):
        both = {"source": torch.ones(1, 77), "target": torch.ones(1, 77), branch: some}
        with pytest.raises(ValueError, match=r"words are .* with 1 at some of each"):
            subject(**both)
    with pytest.raises(ValueError, match="scale is -1"):
        PaintWithWords(regions=[], scale=-1)
    with pytest.raises(ValueError, match=r"threshold is 0.0"):
        Subject(source=torch.ones(1, 77), target=torch.ones(1, 77), threshold=0.0)
    with pytest.raises(ValueError, match=r"threshold is 1.0"):
        LocalBlend(source=torch.ones(1, 77), target=torch.ones(1, 77), threshold=1.0)
