"""The catalogue says what is so: what can be derived is derived again, calls are counted."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import pytest

import unicond
import unicond.mechanisms
from every_method import KINDS, NEW, OLD, Bench, picture
from unicond.mechanisms.bare import BARE
from unicond.mechanisms.catalogue import CATALOGUE
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.entry import GROUPS
from unicond.mechanisms.guidance.universal import travelled
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.sampling import plans
from unicond.sampling.state import Mechanism, Move
from unicond.tasks import compose, edit, generate, layout, restorers

PAGES = Path(__file__).parents[2] / "docs" / "mechanisms"
SURFACE = Path(__file__).parents[1] / "cli" / "surface.json"
MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(unicond.mechanisms.__path__, "unicond.mechanisms.")
]
METHODS = ("begin", "wrap", "revise", "settle")
STEPS = 4


def load(entry):
    module, _, name = entry.home.partition(":")
    return getattr(importlib.import_module(f"unicond.mechanisms.{module}"), name)


def is_complete(kind):
    """Whether a class leaves no method to others."""
    return not any(getattr(value, "__isabstractmethod__", False) for _, value in members(kind))


def members(kind):
    return inspect.getmembers(kind, inspect.isfunction)


def is_solver(kind):
    return inspect.isclass(kind) and "step" in vars(kind)


def makes_a_plan(value):
    """A function of a method of its own; `inversion.paths` serves them all."""
    returns = inspect.isfunction(value) and inspect.signature(value).return_annotation
    return returns == list[Move] and not value.__module__.endswith(".paths")


def test_every_method_is_there_and_nothing_else():
    own = [
        value
        for module in MODULES
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__
        and not getattr(value, "__name__", "_").startswith("_")
    ]
    classes = {v for v in own if inspect.isclass(v) and issubclass(v, Mechanism) and is_complete(v)}
    found = classes | {v for v in own if is_solver(v) or makes_a_plan(v)}
    assert {load(entry) for entry in CATALOGUE} == found
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)


def overrides(kind, name):
    """A `begin` that is only a check is no seam."""
    if not issubclass(kind, Mechanism) or getattr(kind, name) is getattr(Mechanism, name):
        return False
    return not (inspect.getdoc(getattr(kind, name)) or "").startswith("Only a check")


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_what_can_be_derived(entry):
    found = load(entry)
    assert entry.group in GROUPS
    if inspect.isclass(found):
        seams = [name for name in METHODS if overrides(found, name)]
        seams += ["plan"] * ("plan" in vars(found)) + ["solver"] * is_solver(found)
    else:
        seams = ["plan"]
    assert entry.seams == tuple(seams)
    fields = {field.name for field in dataclasses.fields(found)} if inspect.isclass(found) else ()
    assert entry.trained == ("head" if "head" in fields else "no")
    page = (PAGES / entry.page).read_text()
    source = entry.source if " " in entry.source else f"arXiv:{entry.source}"
    assert source in " ".join((inspect.getmodule(found).__doc__ or "").split())
    assert source in " ".join(page.split())
    (where,) = re.findall(r"^\*\*Seam\.\*\*(.*?)(?=^\*\*|^$|\*\*Where)", page, re.M | re.S)
    seams = {seam for other in CATALOGUE if other.page == entry.page for seam in other.seams}
    assert set(re.findall(r"`(begin|wrap|revise|settle)`", where)) <= seams


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_docstrings_say_the_cost_and_what_becomes_of_it_on_latents(entry):
    found = load(entry)
    said = " ".join((found.__doc__ or "").split())
    assert re.search(r"\b(calls?|rows?)\b", said)
    assert re.search(r"\blatent models\b", said)
    fields = {field.name for field in dataclasses.fields(found)} if inspect.isclass(found) else ()
    if {"measurement", "space"} & set(fields):
        assert re.search("decod(er|ing)", said)


NAMES = {
    "edit": [*edit.ALONE, *(f"{one}+*" for one in edit.INVERSIONS)]
    + [f"*+{one}" for one in edit.ATTENTIONS],
    "generate": generate.METHODS,
    "compose": compose.METHODS,
    "layout": layout.METHODS,
    "restore": restorers.METHODS,
}
"""{task: every name that its `method` takes}, those of edits part by part."""


def test_every_name_that_a_task_takes_is_there_and_nothing_else():
    taken = {f"{task} --method {name}" for task, names in NAMES.items() for name in names}
    ways = [way for entry in CATALOGUE for way in entry.asked]
    named = {way for way in ways if " --method " in way}
    assert not named & {*BARE}
    assert named | {*BARE} == taken
    options = json.loads(SURFACE.read_text())
    for way in ways:
        task, option, *_ = way.split()
        assert option in options[f"unicond {task}"]
    assert all(entry.asked for entry in CATALOGUE)


@pytest.mark.parametrize("inversion", edit.INVERSIONS)
@pytest.mark.parametrize("attention", edit.ATTENTIONS)
def test_an_edit_is_made_of_what_its_names_say(inversion, attention, tiny):
    task = edit.Edit("none.png", NEW, source_prompt=OLD, method=f"{inversion}+{attention}")
    route = task.route(tiny, {})
    used = {type(one) for one in (*route.mechanisms, *task.attention(tiny), *route.inner)}
    used.add(type(route.solver))
    for way in (f"edit --method {inversion}+*", f"edit --method *+{attention}"):
        (entry,) = [entry for entry in CATALOGUE if way in entry.asked]
        assert load(entry) in used


def tables():
    """The catalogue, group by group, in Markdown."""
    columns = (
        "method",
        "asked for by",
        "class or plan",
        "seams",
        "network calls a step",
        "further memory",
    )
    lines = []
    for group, does in GROUPS.items():
        head = [
            f"## {group.capitalize()}: {does}",
            "",
            f"| {' | '.join(columns)} |",
            "|---" * 6 + "|",
        ]
        rows = [
            f"| [{one.name}]({one.page}) | {', '.join(f'`{way}`' for way in one.asked)} "
            f"| `{one.made_by}` | {', '.join(one.seams)} | {one.cost} | {one.memory} |"
            for one in CATALOGUE
            if one.group == group
        ]
        lines += [*head, *rows, ""]
    return "\n".join(lines)


def test_the_pages_begin_with_the_catalogue():
    """After a wanted change, write what this prints into docs/mechanisms/README.md."""
    text = (PAGES / "README.md").read_text()
    assert text.endswith("\n" + tables()), tables()
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    assert pages == {entry.page for entry in CATALOGUE}


# --- network calls -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tiny):
    return Bench(tiny)


@pytest.fixture
def counted(bench):
    """The network's calls: (rows, whether a gradient runs through it)."""
    calls = []

    def note(_, args):
        calls.append((len(args[0]), any(value.requires_grad for value in args)))

    hook = bench.model.backbone.network.register_forward_pre_hook(note)
    yield calls
    hook.remove()


def entry_of(name):
    return next(entry for entry in CATALOGUE if name in (entry.made_by, entry.name))


def check(entry, calls, branches=1, windows=1, variants=1, steps=STEPS):
    """Compare calls that were counted with the catalogue's words, of one concept, object, ..."""
    text = entry.calls
    number = int(re.findall(r"\d+", text)[0]) * windows
    number += sum(int(one) for one in re.findall(r"(\d+) of the other model", text))
    if text.startswith("up to"):
        assert 2 * steps < len(calls) <= number * steps, text
    else:
        assert len(calls) == number * steps, text
    rows = sum(int(one) for one in re.findall(r"\+ (\d+) row", text))
    assert max(row for row, _ in calls) == branches * variants * (1 + rows), text
    assert any(gradient for _, gradient in calls) == (", gradient" in text), text


def down(bench, *mechanisms, **call):
    usual = {"branches": ["image"], "num_inference_steps": STEPS, "guidance_scale": 1.0}
    return bench.model(NEW, mechanisms=mechanisms, **{**usual, **call})


@pytest.mark.parametrize("name", [name for name in KINDS if name != "ConditionGuidance"])
def test_calls_of_a_step(bench, counted, name):
    mechanism, call = KINDS[name].make(bench, 1.0), {}
    if name == "Layout":
        mechanism = dataclasses.replace(mechanism, iterations=5)
    if name == "CCDF":
        call["image"] = unicond.Given(picture(4), noise=0.4)
    shown = {"PromptToPrompt": 1, "PlugAndPlay": 1, "MasaCtrl": 1, "StyleInjection": 2}
    beside = ["source", "style"][: shown.get(name, 0)]
    call["references"] = {branch: unicond.Reference(prompt=OLD) for branch in beside}
    counted.clear()
    down(bench, mechanism, **call)
    check(entry_of(name), counted, windows=3 if name == "Panorama" else 1)


def test_calls_of_guidance_by_conditions(bench, counted):
    """Both branches are rows of the calls."""
    mechanism = KINDS["ConditionGuidance"].make(bench, 1.0)
    down(bench, mechanism, depth=picture(1), cache=False)
    check(entry_of("ConditionGuidance"), counted, branches=2)
    counted.clear()
    down(bench, branches=["image", "depth"], depth=unicond.Given(picture(1), guide=True))
    check(entry_of("guidance on the condition's output"), counted, branches=2)


INVERSIONS = {
    "sdedit": "SDEdit",
    "ddim": "DDIM inversion",
    "fixed_point": "fixed-point inversion",
    "null_text": "null-text inversion",
    "negative_prompt": "negative-prompt inversion",
    "direct": "direct inversion",
    "edit_friendly": "edit-friendly DDPM inversion",
    "edict": "EDICT",
}


@pytest.mark.parametrize("method", INVERSIONS)
def test_calls_of_inversions(bench, counted, method):
    edit = plan_edit(method, bench.model.backbone.schedule.times(STEPS), target="image")
    shown = {"source": unicond.Reference(prompt=OLD, picture=picture(4))}
    guided = method == "null_text"
    down(
        bench,
        *edit.mechanisms,
        *edit.inner,
        image=picture(4),
        references={} if method == "sdedit" else shown,
        plan=edit.plan,
        solver=edit.solver,
        num_inference_steps=None,
        guidance_scale=3.0 if guided else 1.0,
    )
    check(entry_of(INVERSIONS[method]), counted, variants=2 if guided else 1)


def test_calls_of_plans(bench, counted):
    times = bench.model.backbone.schedule.times(STEPS)
    fall = plans.descend(times, {"image": 1.0})
    call = {"num_inference_steps": None, "solver": "ddim"}
    down(bench, plan=resampled(fall, 1, 10), **call)
    assert len(counted) == int(entry_of("RePaint").calls.split()[0]) * (STEPS - 1) + 1
    counted.clear()
    down(bench, plan=travelled(fall, 2, 0.25, 0.75), **call)
    assert len(counted) == STEPS + 2
    assert entry_of("travelled").calls.startswith("2 in the middle of the run, else 1")
    counted.clear()
    edit = DiffEdit(source=OLD, strength=1.0)
    down(bench, edit, image=picture(4), plan=edit.plan(times, {"image": 0.0}), **call)
    first, rest = counted[: edit.samples], counted[edit.samples :]
    assert {rows for rows, _ in first} == {2}
    check(entry_of("DiffEdit"), rest)
    assert f"{edit.samples} of 2 rows once" in entry_of("DiffEdit").calls
