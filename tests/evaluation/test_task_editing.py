"""Edits against their true results: what counts as done, and a table of a tiny model."""

import json
import math
from dataclasses import replace

import pytest
import torch
from truth import Truth, reading_of

import unicond
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.condition_table import Run
from unicond.evaluation.metrics_pictures import psnr, psnr_where
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tasks import editing
from unicond.evaluation.tasks.editing import EDITING, VARIANTS, edits_done, prepared
from unicond.evaluation.tasks.group import case_rows, cost_of, joined
from unicond.evaluation.tasks.page import write_contents, write_page
from unicond.evaluation.tasks.registry import groups
from unicond.mechanisms.attention.prompt_to_prompt import PromptToPrompt
from unicond.world.edits import KINDS, Edits, rendered
from unicond.world.vocabulary import CLASSES, COLOR_NAMES

SIZE, STEPS = 64, 2
METHODS = ("direct+p2p", "sdedit", "semantic")
"""Of the table's; its variants are made, too."""


class Known(Truth):
    """A judge that knows the exact maps of given and true pictures, and guesses on others."""

    def __init__(self, edits, before, after):
        self.known = [
            ([edit.source for edit in edits], before),
            ([edit.target for edit in edits], after),
        ]


@pytest.fixture(scope="module")
def drawn():
    edits = Edits(TABLE_WORLD + 3).edits(range(15))
    return edits, *rendered(edits, SIZE)


def read(edits, rendering, which):
    scenes = [getattr(edit, which) for edit in edits]
    return reading_of(scenes, rendering, rendering.image.flatten(2).mean(2))


def test_what_is_true_is_done_and_what_was_is_not(drawn):
    edits, before, after = drawn
    assert not any(edits_done(read(edits, before, "source"), edits, before, after))
    assert all(edits_done(read(edits, after, "target"), edits, before, after))


def test_half_of_the_place_is_enough(drawn):
    edits, before, after = drawn
    row = next(n for n, edit in enumerate(edits) if edit.kind == "recolour")
    seen = read(edits, after, "target")
    place = (after.instances[row] == edits[row].entity + 1).nonzero()
    for share, done in ((0.45, False), (0.55, True)):
        wrong = place[round(share * len(place)) :].T
        colors = seen.colors.clone()
        colors[row, wrong[0], wrong[1]] = COLOR_NAMES.index("other")
        assert edits_done(replace(seen, colors=colors), edits, before, after)[row] is done


def test_what_is_added_may_be_elsewhere_but_not_tiny(drawn):
    edits, before, after = drawn
    row = next(n for n, edit in enumerate(edits) if edit.kind == "add")
    size = int((after.instances[row] == edits[row].entity + 1).sum())
    for share, done in ((0.15, False), (0.35, True)):
        classes, colors = before.classes.long().clone(), before.colors.long().clone()
        count = round(share * size)
        high = -(-count // 20)
        classes[row, :high, :20] = CLASSES.index(edits[row].solid.shape)
        colors[row, :high, :20] = COLOR_NAMES.index(edits[row].solid.color)
        seen = replace(read(edits, before, "source"), classes=classes, colors=colors)
        assert edits_done(seen, edits, before, after)[row] is done


def test_psnr_of_a_part_by_hand():
    still = torch.zeros(2, 3, 10, 10)
    made, mask = still.clone(), torch.ones(2, 1, 10, 10, dtype=torch.bool)
    made[:, :, :5] += 0.2
    made[:, :, 5:] += 1.0
    mask[0, :, 5:] = False
    mask[1] = False
    found = psnr_where(made, still, mask)
    assert found[0].item() == pytest.approx(20 * math.log10(2 / 0.2))
    assert found[1].isnan()
    everywhere = torch.ones_like(mask)
    assert torch.allclose(psnr_where(made, still, everywhere), psnr(made, still))
    assert psnr_where(still, still, everywhere).tolist() == [60, 60]
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\)"):
        psnr_where(made, still, mask[:1])


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    """A bench of one edit of each kind, and a judge that knows them."""
    out = tmp_path_factory.mktemp("tasks")
    run = Run(5, 3, 3, out, "unicond table tasks", {"base": "tiny"}, True)
    edits = Edits(TABLE_WORLD + 3).edits(range(5))
    model = unicond.load(tiny_base, device="cpu")
    judge = Chunked(edits, *rendered(edits, model.backbone.sample_size))
    return Bench(model, judge, run, Sampling(steps=STEPS, guidance=3.0))


class Chunked(Known):
    """The same judge, asked about chunks of three and of two."""

    def __init__(self, edits, before, after):
        self.known = [
            ([getattr(edit, which) for edit in edits[rows]], drawn[rows])
            for rows in (slice(0, 3), slice(3, 5))
            for which, drawn in (("source", before), ("target", after))
        ]


@pytest.fixture(scope="module")
def made(bench):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(editing, "METHODS", METHODS)
        table, folder = tabulate(EDITING.study, bench)
        yield table, folder, EDITING.show(bench)


def test_rows_are_named_by_case_and_method(made):
    table, folder, _ = made
    own = {case: (*VARIANTS,) for case in ("recolour", "swap_class")}
    methods = {
        case: ("unedited", "truth", *METHODS, *own.get(case, ())) for case in ("all", *KINDS)
    }
    names = [f"editing/{case}/{method}" for case, each in methods.items() for method in each]
    assert [row.name for row in table.rows] == names
    for row in table.rows:
        assert {"done", "abs_rel", "psnr_target", "seconds", "calls"} <= row.metrics.keys()
        assert ("psnr_outside" in row.metrics) == ("restyle" not in row.name)
    assert {"done", "psnr_outside", "abs_rel"} <= table.row("editing/all/sdedit").intervals.keys()
    assert "NaN" not in (folder / "table.json").read_text()
    assert (folder / "plot.png").is_file()


def test_the_unedited_picture_has_kept_all_and_done_nothing(made):
    table, _, _ = made
    for case in ("all", *KINDS):
        row = table.row(f"editing/{case}/unedited").metrics
        assert (row["done"], row["calls"]) == (0, 0)
        if case not in ("all", "restyle"):
            assert row["psnr_outside"] > 59  # within half a level of eight bits
    assert table.row("editing/recolour/unedited").metrics["abs_rel"] < 0.02  # of inverse depth
    assert table.row("editing/remove/unedited").metrics["abs_rel"] > 0.02


def test_calls_are_counted(made):
    table, _, _ = made
    pair = table.row("editing/all/direct+p2p").metrics
    assert pair["calls"] == 2 * STEPS  # up and down
    assert table.row("editing/all/sdedit").metrics["calls"] == round(0.75 * STEPS)
    for method in VARIANTS:
        assert table.row(f"editing/recolour/{method}").metrics["calls"] == 2 * STEPS
    assert pair["seconds"] > 0


def test_a_rerun_reads_what_is_there(bench, made):
    table, _, _ = made
    blind = replace(bench, judge=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(editing, "METHODS", METHODS)
        assert tuple(EDITING.study.make(blind)) == table.rows


def test_removals_take_away_and_words_are_of_what_changes(bench):
    cases = prepared(bench, range(5))
    for row, edit in enumerate(cases.edits):
        task = editing.asked(edit, cases.before.image[row], "semantic", 1, bench)
        assert task.prompt == edit.words
        assert (task.scale < 0) == (edit.kind == "remove")
        other = editing.asked(edit, cases.before.image[row], "sdedit", 1, bench)
        assert (other.prompt, other.source_prompt) == (edit.target_caption, edit.source_caption)
        assert (other.num_inference_steps, other.guidance_scale) == (STEPS, 3.0)


def test_subjects_are_told_in_the_words_of_either_caption(bench):
    cases = prepared(bench, range(5))
    for row, edit in enumerate(cases.edits[:2]):
        for method, plain in VARIANTS.items():
            task = editing.asked(edit, cases.before.image[row], method, 1, bench)
            assert task.method == plain
            assert f" {task.subject} " in f" {task.prompt} "
            assert f" {task.source_subject} " in f" {task.source_prompt} "
            assert edit.words.endswith(f" {task.subject}")
            assert task.subject != task.source_subject
            (acts,) = task.attention(bench.model)
            marked = acts.blend if isinstance(acts, PromptToPrompt) else acts.subject
            assert marked.source.any()
            assert marked.target.any()


@pytest.mark.parametrize("method", VARIANTS)
def test_only_edits_whose_thing_both_captions_name_are_told_it(bench, made, method):
    _, _, pictures = made
    shown = {kind: lines[0].captions for kind, lines in pictures.items()}
    assert [kind for kind in KINDS if method in shown[kind]] == ["recolour", "swap_class"]
    found = editing.of_variant(method, prepared(bench, range(2, 5))).values
    assert {*found} == {*editing.METRICS, "seconds", "calls"}
    assert all(values == [None] * 3 for values in found.values())
    cases = prepared(bench, range(5))
    told = cases.only(("swap_class",))
    assert (told.numbers, told.edits) == ((1,), cases.edits[1:2])
    assert torch.equal(told.after.image, cases.after.image[1:2])


def test_the_page_shows_numbers_and_pictures(made, tmp_path):
    table, folder, pictures = made
    assert list(pictures) == list(KINDS)
    page = write_page(EDITING, table, folder, pictures, tmp_path / "editing")
    text = page.read_text()
    for case in KINDS:
        assert f"<h2>{case.replace('_', ' ')}</h2>" in text
    assert "direct+p2p" in text
    assert '<tr class="bound"><td>unedited</td>' in text
    names = {path.name for path in (tmp_path / "editing").iterdir()}
    shown = {f"pictures-{n}.jpg" for n in range(len(KINDS))}
    assert names == {"index.html", "table.json", "table.csv", "plot.png", *shown}
    contents = write_contents(groups(), tmp_path).read_text()
    assert 'href="editing/index.html"' in contents
    assert "inversion/index.html" not in contents  # not there yet


def test_tables_of_groups_are_joined(made):
    table, _, _ = made
    rows = tuple(replace(row, name=row.name.replace("editing", "other")) for row in table.rows)
    other = replace(table, rows=rows, seconds=1.0, settings={**table.settings, "table": "other"})
    both = joined([table, other], "unicond ...", ["editing", "other"])
    assert len(both.rows) == 2 * len(table.rows)
    assert both.seconds == table.seconds + 1
    assert both.settings["base"] == "tiny"
    assert both.settings["other table"] == "other"
    assert json.loads(both.to_json())["command"] == "unicond ..."
    assert joined([table], table.command, ["editing"]) == table


def test_rows_of_a_case_are_means_over_its_scenes():
    zeros = [0.0] * 4
    found = {"m": Samples({"x": [1.0, None, 3.0, 10.0], "seconds": zeros, "calls": zeros})}
    rows = {row.name: row for row in case_rows("g", found, ("a", "b", "a", "b"), ("x",))}
    assert list(rows) == ["g/all/m", "g/a/m", "g/b/m"]
    assert rows["g/a/m"].metrics["x"] == 2
    low, high = rows["g/a/m"].intervals["x"]
    assert high - 2 == pytest.approx(2 - low)
    assert rows["g/b/m"].metrics["x"] == 10
    assert "x" not in rows["g/b/m"].intervals  # one scene alone
    assert rows["g/all/m"].metrics["x"] == pytest.approx(14 / 3)


def test_counting_leaves_the_network_as_it_was(bench):
    network = bench.model.backbone.network
    with pytest.raises(RuntimeError), cost_of(bench.model):
        raise RuntimeError
    assert not network._forward_pre_hooks


def test_unknown_groups_are_named():
    assert [group.name for group in groups(["inversion", "editing"])] == ["editing", "inversion"]
    with pytest.raises(ValueError, match="no group 'cooking' of tasks; there are editing"):
        groups(["cooking"])
