"""The page's plain functions: drawings, paint, and what stands on the page as a form and back."""

import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import unicond
from unicond.studio import queue
from unicond.studio.database import Database
from unicond.studio.page import drawing, history, painted, placed, slots
from unicond.studio.page.examples import EXAMPLES, example
from unicond.studio.page.fields import number_of, size_of
from unicond.studio.page.members import members_told
from unicond.studio.page.recorded import told_of_png
from unicond.studio.page.told import form_of, told_of
from unicond.tasks import forms
from unicond.tasks.filled import Filled
from unicond.tasks.form_pictures import pictures_of

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def layer_with(colour, box, size=(20, 10)):
    layer = Image.new("RGBA", size)
    layer.paste((*colour, 255), box)
    return layer


def spots(svg):
    """The corners of every way in a drawing, as (x, y) of noise."""
    tree = ElementTree.fromstring(svg)
    ways = [one.get("d") for one in tree.iter() if one.tag.endswith("path")][1:]
    side, edge = drawing.SIDE, 26
    found = []
    for way in ways:
        pairs = [tuple(map(float, spot.split())) for spot in re.split("[ML]", way)[1:]]
        inner = side - 2 * edge
        found.append([((x - edge) / inner, (side - edge - y) / inner) for x, y in pairs])
    return found


@pytest.mark.parametrize(
    ("starts", "plan", "corner"),
    [
        ({"image": 1.0, "depth": 1.0}, None, (0.5, 0.5)),
        ({"image": 1.0, "depth": 0.0}, None, (0.5, 0.0)),
        ({"image": 1.0, "depth": 0.4}, None, (0.5, 0.2)),
        ({"image": 0.0, "depth": 1.0}, None, (0.0, 0.5)),
        ({"image": 1.0, "depth": 1.0}, "image-first", (0.0, 1.0)),
        ({"image": 1.0, "depth": 1.0}, "condition-first", (1.0, 0.0)),
    ],
)
def test_a_plan_is_drawn_where_it_goes(starts, plan, corner):
    (way,) = spots(drawing.plan_svg(drawing.moves_of(starts, [], plan, 10)))
    assert len(way) == 11
    expected = [tuple(starts.values()), corner, (0.0, 0.0)]
    assert np.abs(np.subtract([way[0], way[5], way[-1]], expected)).max() < 1e-3


def test_each_condition_has_a_way_of_its_own():
    moves = drawing.moves_of({"image": 1.0, "depth": 1.0, "<b>": 0.5}, ["<b>"], None, 4)
    both = spots(drawing.plan_svg(moves))
    assert [way[-1][1] for way in both] == pytest.approx([0.0, 0.5], abs=1e-3)


def test_drawings_hold_text_as_text():
    svg = drawing.boxes_svg([("<script>", '"red"', (0.0, 0.0, 0.5, 1.0))])
    assert "<script>" not in svg
    ElementTree.fromstring(svg)
    assert "&lt;b&gt;" in drawing.live_html("<b>", 0.5, "")


def test_the_time_left_is_told():
    assert drawing.left_text(0, 10, 3.0) == "it begins"
    assert drawing.left_text(2, 10, 3.0) == "move 2 of 10, 12 s left"
    assert drawing.left_text(1, 101, 3.0) == "move 1 of 101, 5 min left"


@pytest.mark.parametrize("keeps", [False, True])
def test_paint_becomes_a_mask(keeps):
    mask = painted.mask_of([layer_with((255, 255, 255), (5, 2, 10, 4))], keeps)
    assert mask.size == (20, 10)
    white = np.asarray(mask) == 255
    assert white.sum() == (10 if keeps else 190)
    assert white[3, 7] == keeps
    assert painted.mask_of([Image.new("RGBA", (4, 4))], keeps) is None
    assert painted.mask_of([], keeps) is None


def test_each_spot_of_a_colour_is_a_box():
    palette = {"red": (220, 20, 20), "blue": (20, 80, 230)}
    first = layer_with((200, 30, 30), (0, 0, 10, 5))
    first.paste((0, 60, 255, 255), (10, 5, 20, 10))
    second = layer_with((220, 20, 20), (0, 0, 4, 10))
    second.paste((220, 20, 20, 255), (10, 0, 14, 10))
    assert painted.boxes_of([first, second, Image.new("RGBA", (20, 10))], palette) == [
        ("red", (0.0, 0.0, 0.5, 0.5)),
        ("blue", (0.5, 0.5, 1.0, 1.0)),
        ("red", (0.0, 0.0, 0.2, 1.0)),
        ("red", (0.5, 0.0, 0.7, 1.0)),
    ]


def test_a_spot_that_touches_by_a_corner_is_one():
    layer = layer_with((220, 20, 20), (0, 0, 5, 5))
    layer.paste((220, 20, 20, 255), (5, 5, 10, 10))
    assert painted.boxes_of([layer], {"red": (220, 20, 20)}) == [("red", (0.0, 0.0, 0.5, 1.0))]


def test_painting_adds_to_the_table():
    """What was written stays, two things of a colour are two rows, and a growing one stays one."""
    red, blue = placed.PALETTE["red"], placed.PALETTE["blue"]
    written = [["green", "cone", 0.1, 0.1, 0.2, 0.2], [None, None, "", "", "", ""]]
    layer = layer_with(red, (0, 0, 4, 5))
    rows, spots = placed.rows_of([layer], written, [])
    assert rows == [written[0], ["red", "ball", 0.0, 0.0, 0.2, 0.5]]
    rows[1][1] = "box"
    layer.paste((*red, 255), (10, 0, 14, 5))
    rows, spots = placed.rows_of([layer], rows, spots)
    assert rows[1:] == [
        ["red", "box", 0.0, 0.0, 0.2, 0.5],
        ["red", "box", 0.5, 0.0, 0.7, 0.5],
    ]
    rows[2][1] = "ball"
    layer.paste((*red, 255), (10, 0, 14, 10))
    rows, spots = placed.rows_of([layer], rows, spots)
    layer.paste((*blue, 255), (0, 2, 20, 4))
    rows, spots = placed.rows_of([layer], rows, spots)
    assert rows[1:] == [
        ["red", "box", 0.0, 0.0, 0.2, 0.5],
        ["red", "ball", 0.5, 0.0, 0.7, 1.0],
        ["blue", "ball", 0.0, 0.2, 1.0, 0.4],
    ]


def test_what_is_wiped_out_leaves_the_table_unless_it_was_written_anew():
    red = placed.PALETTE["red"]
    layer = layer_with(red, (0, 0, 4, 5))
    layer.paste((*red, 255), (10, 0, 14, 5))
    rows, spots = placed.rows_of([layer], [], [])
    rows[0][4] = 0.25
    rows, spots = placed.rows_of([Image.new("RGBA", (20, 10))], rows, spots)
    assert rows == [["red", "ball", 0.0, 0.0, 0.25, 0.5]]
    assert spots == []


def test_a_table_of_boxes_is_told_and_drawn():
    rows = [["blue", "cone", 0.0, 0.0, 0.5, 1.0], [None, None, "", "", "", ""]]
    assert placed.boxes_told(rows, "phrase") == [
        {"phrase": "blue cone", "box": [0.0, 0.0, 0.5, 1.0]}
    ]
    assert "blue cone" in placed.drawn(rows)
    with pytest.raises(ValueError, match="'wide' in the table is no number"):
        placed.boxes_told([["red", "ball", 0, 0, "wide", 1]], "phrase")


def test_weights_below_zero_keep_out():
    told = placed.weights_told([["a dog", "5"], ["a cat", -2], ["grass", ""], ["", 3]])
    assert told == {"with": {"a dog": 5.0, "grass": None}, "without": {"a cat": 2.0}}


def test_sizes_are_read():
    assert size_of(" ") is None
    assert size_of("64") == 64
    assert size_of("64x128") == [64, 128]
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        size_of("64 by 128")


def test_numbers_are_read():
    assert number_of(" ", "Steps", whole=True) is None
    assert number_of("20", "Steps", whole=True) == 20
    assert number_of("1.5", "Guidance") == 1.5
    assert number_of("0", "Guidance") == 0
    with pytest.raises(ValueError, match=r"'2[.]5' is no whole number; leave it empty"):
        number_of("2.5", "Steps", whole=True)


def slot(
    role="give",
    noise=0.0,
    paint=slots.PAINTS[0],
    layers=(),
    hold=False,
    picture=PICTURE,
    weight="",
):
    composite = Image.new("RGB", (8, 8), "white")
    return slots.Slot(picture, layers, composite, role, noise, paint, hold, weight)


def test_slots_say_what_is_given_and_made():
    told = slots.told_of({"image": slot("make"), "depth": slot(noise=0.4, hold=True)})
    assert told["give"] == {"depth": PICTURE}
    assert (told["noise"], told["hold"], told["mask"]) == ({"depth": 0.4}, ["depth"], {})
    assert "only" not in told


def test_a_slot_of_nothing_but_noise_gives_nothing():
    assert slots.told_of({"image": slot("make"), "depth": slot(noise=1.0)})["give"] == {}


def test_what_is_left_out_is_not_made():
    assert slots.told_of({"image": slot("make"), "depth": slot("leave out")})["only"] == ["image"]


def test_paint_is_a_mask_or_part_of_the_picture():
    layers = [layer_with((255, 255, 255), (0, 0, 4, 8), (8, 8))]
    masked = slots.told_of({"image": slot(layers=layers)})
    assert np.asarray(masked["mask"]["image"])[0].tolist() == [0] * 4 + [255] * 4
    drawn = slots.told_of({"image": slot(layers=layers, paint=slots.PAINTS[2])})
    assert drawn["mask"] == {}
    assert drawn["give"]["image"].getpixel((5, 5)) == (255, 255, 255)


def test_what_is_given_must_be_there():
    with pytest.raises(ValueError, match="depth is to be given"):
        slots.told_of({"depth": slot(picture=None)})


def test_the_plan_follows_the_slots():
    both = {"image": slot("make"), "depth": slot(noise=0.4)}
    (way,) = spots(slots.plan_of(both, [False, False], None, 4))
    assert way[0] == pytest.approx((1.0, 0.4), abs=1e-3)
    # paint is a mask: what is known in part starts as noise, unless the paint is the picture's
    (way,) = spots(slots.plan_of(both, [False, True], None, 4))
    assert way[0] == pytest.approx((1.0, 1.0), abs=1e-3)
    drawn = {**both, "depth": slot(noise=0.4, paint=slots.PAINTS[2])}
    (way,) = spots(slots.plan_of(drawn, [False, True], None, 4))
    assert way[0] == pytest.approx((1.0, 0.4), abs=1e-3)
    assert "nothing to generate" in slots.plan_of({"image": slot()}, [False], None, 4)


@pytest.mark.parametrize("empty", [None, Image.new("RGBA", (20, 10), "white")])
def test_what_is_drawn_on_an_empty_canvas_is_given(empty):
    usual = slots.ROLES[1], slots.PAINTS[0]
    stroke = layer_with((0, 0, 0), (2, 2, 8, 4))
    edited = {"background": empty, "layers": [stroke], "composite": stroke}
    assert slots.painted_on(edited, *usual) == ("give", "is part of it", True)
    on_a_picture = {**edited, "background": PICTURE}
    assert slots.painted_on(on_a_picture, *usual) == (*usual, True)
    untouched = {**edited, "layers": [Image.new("RGBA", (20, 10))]}
    assert slots.painted_on(untouched, *usual) == (*usual, False)
    assert slots.painted_on(None, *usual) == (*usual, False)


def test_weights_are_one_number_or_both():
    told = slots.told_of({"image": slot("make"), "depth": slot("make", weight=" 0.5 ")})
    assert told["conditioning_scale"] == {"depth": 0.5}
    assert slots.weight_of("depth", "1:0.5") == [1.0, 0.5]
    with pytest.raises(ValueError, match="weight of depth 'much' is none"):
        slots.weight_of("depth", "much")


def test_members_have_weights_but_the_first():
    spare = ["", None, 0.5, "", ""]
    values = [
        "depth",
        PICTURE,
        0.5,
        "",
        "",
        "text",
        None,
        0.3,
        "a dog",
        '{"boxes": []}',
        *spare * 6,
    ]
    assert members_told(values) == [
        {"name": "depth", "picture": PICTURE},
        {"name": "text", "weight": 0.3, "prompt": "a dog", "boxes": {"boxes": []}},
    ]
    values[4] = "{"
    with pytest.raises(ValueError, match="Boxes of model 1: it is no JSON"):
        members_told(values)


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=list(EXAMPLES))
def test_examples_are_forms_that_fit_together(number):
    form, sent = form_of(example(number))
    Filled(form, lambda picture: str(picture.upload), {}).check()
    assert {one.upload for one in pictures_of(form)} == sent.keys()


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=list(EXAMPLES))
def test_examples_are_made(tiny, number):
    form, sent = form_of({**example(number), "steps": 4})

    def read(picture):
        return Image.open(io.BytesIO(sent[picture.upload]))

    assert len(Filled(form, read, {}).run(tiny.only("depth"))) == 1


def test_there_is_an_example_of_every_task():
    assert {example(number)["task"] for number in range(len(EXAMPLES))} == forms.FORMS.keys()


def test_jobs_without_pictures_say_why():
    def tile(status, error=None):
        job = queue.Job(
            id="0",
            user="ann",
            task="generate",
            base="tiny",
            form="{}",
            kin=None,
            rows=1,
            created=0.0,
            status=status,
            error=error,
        )
        return np.asarray(history.tile(job))

    seen = [tile("queued"), tile("running"), tile("failed", "no model"), tile("failed", "no disk")]
    assert all(one.shape == (*history.THUMB, 3) for one in seen)
    assert len({one.tobytes() for one in seen}) == len(seen)


TOLD = [
    {"task": "generate", "prompt": "a", "give": {"depth": PICTURE}, "mask": {"depth": PICTURE}},
    {"task": "layout", "prompt": "a", "box": [{"phrase": "a", "box": [0.0, 0.0, 1.0, 1.0]}]},
    {"task": "compose", "with": {"a": 2.0}, "without": {"b": None}},
    {"task": "aggregate", "prompt": "a", "model": [{"name": "d", "picture": PICTURE}] * 2},
    {"task": "edit", "prompt": "a", "picture": PICTURE, "size": [64, 128]},
]


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told["task"])
def test_a_form_is_what_was_told_and_back(told):
    form, sent = form_of(told)
    files = {name: painted.png_of(PICTURE) for name in sent}
    assert sent == files
    assert isinstance(form, forms.FORMS[told["task"]])
    back = told_of(form, lambda name: PICTURE if name in sent else None)
    again, more = form_of(back)
    assert again == form
    assert more == sent


def test_the_past_is_found_by_words_after_a_restart(tmp_path):
    database = Database(tmp_path / "queue.sqlite")
    prompts = ["A red ball", "a blue box", "a ball in the rain"]
    for number, (user, prompt) in enumerate([*(("ann", one) for one in prompts), ("bob", "ball")]):
        form = json.dumps({"task": "generate", "prompt": prompt})
        job = queue.Job(
            id=str(number),
            user=user,
            task="generate",
            base="tiny",
            form=form,
            kin=None,
            rows=1,
            created=0.0,
        )
        queue.add(database, job, 10, 10)
    database.close()
    again = Database(tmp_path / "queue.sqlite")

    def found(words, most=10):
        return [one.id for one in queue.search(again, "ann", words, most)]

    assert found("ball") == ["2", "0"]
    assert found("RED  BALL") == ["0"]
    assert found("") == ["2", "1", "0"]
    assert found("", 1) == ["2"]
    assert found("100%") == []
    again.close()


def test_what_is_no_form_is_told_by_its_fields():
    with pytest.raises(ValueError, match=r"generate.steps.*greater than or equal to 1"):
        form_of({"task": "generate", "steps": 0})


def test_nothing_that_a_png_names_elsewhere_is_read(tiny, tmp_path):
    """Pictures that do not lie in a job are not even asked for."""
    given = f"jobs/{'0' * 32}/given"
    (tmp_path / given).mkdir(parents=True)
    PICTURE.convert("L").save(tmp_path / given / "0.png")
    depth = unicond.given(tmp_path / given / "0.png", noise=0.5)
    out = tiny.only("depth")("a dog", depth=depth, size=(64, 64), num_inference_steps=2)
    asked = []
    recorded = told_of_png(str(out.save(tmp_path / "out")[0]), asked.append, {})
    assert asked == []
    assert recorded.told["give"] == {"depth": None}
