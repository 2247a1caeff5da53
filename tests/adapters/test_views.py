"""Views: who sees what, against plain loops, and the three of them against each other."""

import pytest
import torch
from diffusers.models.attention_processor import Attention

from unicond.adapters.views import (
    BLOCK,
    REACH,
    Blocks,
    Everything,
    Neighbourhood,
    grid_of,
    neighbours,
    tiling,
    view,
)

CPU = torch.device("cpu")


def attention():
    return Attention(query_dim=16, heads=2, dim_head=8)


def random(count, tokens, seed):
    return torch.randn(count, tokens, 16, generator=torch.Generator().manual_seed(seed))


def seen_by(some_view, tokens, key):
    """Which queries change when one key changes."""
    attn, q = attention(), random(1, tokens, 0)
    k, v = random(1, tokens, 1), random(1, tokens, 2)
    before = some_view.attend(attn, q, some_view.keys(attn, k, v, None))
    v = v.clone()
    v[0, key] += 1.0
    after = some_view.attend(attn, q, some_view.keys(attn, k, v, None))
    return (before != after).any(-1)[0]


@pytest.mark.parametrize("grid", [(4, 4), (16, 16), (5, 9)])
def test_a_neighbourhood_is_seven_by_seven_around_each_token(grid):
    mask = neighbours(grid, CPU, torch.float32) == 0
    for a in range(grid[0] * grid[1]):
        for b in range(grid[0] * grid[1]):
            (ay, ax), (by, bx) = divmod(a, grid[1]), divmod(b, grid[1])
            assert bool(mask[a, b]) == (max(abs(ay - by), abs(ax - bx)) <= 3)


@pytest.mark.parametrize("grid", [(32, 32), (20, 36), (17, 8)])
def test_blocks_see_the_neighbourhood_and_little_more(grid):
    height, width = grid
    some_view = Blocks(grid)
    for key in (0, height * width - 1, (height // 2) * width + width // 3):
        y, x = divmod(key, width)
        seen = seen_by(some_view, height * width, key).view(grid)
        near = torch.zeros(grid, dtype=torch.bool)
        near[max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1] = True
        assert seen[near].all()
        far = BLOCK + 2 * REACH
        ys, xs = torch.nonzero(seen, as_tuple=True)
        assert (ys - y).abs().max() < far
        assert (xs - x).abs().max() < far


@pytest.mark.parametrize("grid", [(32, 32), (20, 36)])
def test_each_block_is_attention_over_its_window(grid):
    attn = attention()
    tokens = grid[0] * grid[1]
    q, k, v = (random(2, tokens, seed) for seed in range(3))
    some_view, plain = Blocks(grid), Everything()
    found = some_view.attend(attn, q, some_view.keys(attn, k, v, None))
    index = tiling(grid, CPU)
    for n, (queries, keys) in enumerate(zip(index.queries, index.keys, strict=True)):
        alone = plain.attend(attn, q[:, queries], plain.keys(attn, k[:, keys], v[:, keys], None))
        own = index.back[queries] // len(queries) == n  # where blocks overlap, the last one counts
        torch.testing.assert_close(found[:, queries][:, own], alone[:, own], rtol=0, atol=1e-6)


def test_on_a_grid_of_one_neighbourhood_every_view_is_the_same():
    attn, grid = attention(), (4, 4)
    q, k, v = (random(3, 16, seed) for seed in range(3))
    views = (Everything(), Neighbourhood(grid), Blocks(grid))
    one, two, three = (seen.attend(attn, q, seen.keys(attn, k, v, None)) for seen in views)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    torch.testing.assert_close(one, three, rtol=0, atol=1e-6)


def test_the_view_follows_the_grid():
    assert isinstance(view(False, None, 50), Everything)
    assert view(True, (64, 48), 64 * 48) == Blocks((64, 48))
    assert view(True, (64, 48), 32 * 24) == Blocks((32, 24))
    assert view(True, (64, 48), 16 * 12) == Neighbourhood((16, 12))
    assert grid_of((9, 13), 5 * 7) == (5, 7)


def test_what_has_no_grid_is_refused():
    with pytest.raises(ValueError, match="50 tokens are no picture of"):
        view(True, (16, 16), 50)
    with pytest.raises(ValueError, match=r"the latents' size in `Rows.size`"):
        view(True, None, 256)
    attn, q = attention(), random(1, 16, 0)
    with pytest.raises(ValueError, match="16 tokens where the grid has 8 x 8"):
        Blocks((8, 8)).keys(attn, q, q, None)
    with pytest.raises(ValueError, match="takes no attention mask"):
        Neighbourhood((4, 4)).keys(attn, q, q, torch.zeros(1, 1, 1, 16))
