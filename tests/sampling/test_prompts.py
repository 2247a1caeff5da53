"""Prompts of several groups of rows become one, in the order of the rows."""

import pytest
import torch

from unicond.sampling.prompts import Prompt, gather


def prompt(first, rows, added=True):
    tokens = torch.arange(rows)[:, None, None].expand(rows, 2, 3) + first
    return Prompt(tokens, tokens[:, 0] if added else None, tokens[:, 0, :2] if added else None)


def test_rows_are_in_order_and_single_ones_repeated():
    whole = gather([prompt(0, 2), prompt(10, 1)], 2)
    for found, shape in (
        (whole.tokens, (4, 2, 3)),
        (whole.pooled, (4, 3)),
        (whole.time_ids, (4, 2)),
    ):
        assert found.shape == shape
        assert found.flatten(1)[:, 0].tolist() == [0, 1, 10, 10]


def test_nothing_is_added_where_nothing_is():
    whole = gather([prompt(0, 2, added=False), prompt(10, 1, added=False)], 2)
    assert whole.pooled is None
    assert whole.time_ids is None


def test_prompts_of_different_kinds_are_refused():
    with pytest.raises(ValueError, match="some prompts have pooled embeddings"):
        gather([prompt(0, 1), prompt(0, 1, added=False)], 1)
