"""95 % intervals over scenes, of any number that is computed from scenes: the jackknife.

The scenes are dealt into G groups; leaving each out in turn gives G values of the estimate, and

    variance = (G - 1) / G  sum_g (value_g - mean)^2,
    interval = estimate +- t(G - 1) sqrt(variance)

with Student's t. For a mean and groups of one scene this is exactly the textbook's interval; it
also holds for ratios of sums, for shares of a gap between two rows, whose scenes are paired, and
(with few groups) for Frechet distances. Shares end at 0 and 1; where all scenes are alike, which
leaves the jackknife nothing, their interval is the binomial one of Clopper and Pearson:

    none of n scenes:  0 to 1 - 0.025^(1/n);  all of them:  0.025^(1/n) to 1.

Sources: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 11; Clopper and
Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
"""

import math
from collections.abc import Callable, Sequence

Interval = tuple[float, float]
Estimate = Callable[[Sequence[int]], float]
"""From the numbers of the scenes that count to a number."""


def jackknife(estimate: Estimate, scenes: int, groups: int = 50) -> Interval | None:
    """The 95 % interval of an estimate.

    Args:
        estimate: called with the scenes that are left.
        scenes: how many there are.
        groups: at most so many are formed.

    Returns:
        Lower and upper end; None where it cannot be said: fewer than two groups, or an estimate
        that is not finite.
    """
    count = min(groups, scenes)
    centre = estimate(range(scenes))
    if count < 2 or not math.isfinite(centre):
        return None
    left = [[n for n in range(scenes) if n % count != group] for group in range(count)]
    values = [value for value in map(estimate, left) if math.isfinite(value)]
    if len(values) < count:
        return None
    mean = math.fsum(values) / count
    variance = (count - 1) / count * math.fsum((value - mean) ** 2 for value in values)
    half = student_t(count - 1) * math.sqrt(variance)
    return centre - half, centre + half


def of_share(ends: Interval, scenes: int) -> Interval:
    """The interval of what lies between 0 and 1.

    Args:
        ends: as the jackknife says.
        scenes: how many there are.

    Returns:
        Within 0 and 1, and never of one point there.
    """
    low, high = (min(max(end, 0.0), 1.0) for end in ends)
    alike = 0.025 ** (1 / scenes)
    if low == high == 0:
        return 0.0, 1 - alike
    return (alike, 1.0) if low == high == 1 else (low, high)


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion.

    Args:
        freedom: degrees of freedom, 1 or more.

    Returns:
        The quantile, within 1 % from 4 degrees on.
    """
    z = 1.959963984540054
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (n + 1) for n, term in enumerate(terms))
