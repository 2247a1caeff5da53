"""The demo on a tiny random model: every part is made, measured, drawn and saved."""

import numpy as np
import pytest
import torch
from PIL import Image

from unicond.demo import NOISES, PROMPTS, WALK, run_demo
from unicond.evaluation.judge import ProbeJudge
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.pictures.metadata import read_settings
from unicond.pictures.sheet import Line, sheet


def test_every_direction_on_one_sheet(tiny, tmp_path):
    torch.manual_seed(0)
    judge = ProbeJudge(Probe(ProbeConfig(widths=(4, 8))).eval(), torch.device("cpu"))
    said = []
    parts, path = run_demo(tiny, judge, tmp_path, lambda *what: said.append(what))
    assert [part.name[0] for part in parts] == list("abcde")
    assert [what[:2] for what in said] == [(done, 5) for done in range(6)]
    assert all(part.value >= 0 for part in parts)
    counts = [[len(line.pictures) for line in part.lines] for part in parts]
    assert counts == [[6, 6], [4] * 3, [len(PROMPTS)] * 2, [len(NOISES)], [len(WALK)] * 2]
    files = list((tmp_path / "parts").iterdir())
    assert len(files) == sum(map(sum, counts))
    assert read_settings(files[0])["demo"]
    assert Image.open(path).height > 10 * 64


def test_sheets_need_pictures_and_as_many_captions():
    with pytest.raises(ValueError, match="at least one picture"):
        sheet([])
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        sheet([Line("", [torch.zeros(3, 4, 4)] * 2, ["one"])])
    drawn = sheet([Line("", [torch.ones(3, 8, 4)], ["a"])], height=16)
    assert drawn.size == (4 + 8 + 4, 16 + 28 + 4)


def test_a_title_is_not_cut_where_pictures_are_narrow():
    narrow = sheet([Line("what is told of the picture", [torch.ones(3, 8, 8)])])
    told = (np.asarray(narrow.convert("L"))[:20] < 200).any(0).nonzero()[0]
    assert narrow.width - 8 < told.max() < narrow.width - 1
    wide = sheet([Line("a", [torch.ones(3, 8, 400)])])
    assert wide.width == 408
