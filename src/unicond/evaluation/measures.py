"""What is measured of every condition on a chunk of held-out scenes.

Between text alone (the worst) and the judge on the autoencoder's reconstructions (the best that a
latent model can reach) stands condition -> image; image -> condition stands beside the judge, a
specialist, and beside drawings that only went through the autoencoder. Held branches are measured
in each way that the two branches can look at each other, on the same scenes and noises.
"""

from collections.abc import Sequence

from unicond.adapters.config import JointConfig, Role
from unicond.conditions import Condition
from unicond.evaluation.chunk import Chunk, Fidelity, features, image_scores
from unicond.evaluation.fidelity_appearance import AppearanceFidelity
from unicond.evaluation.fidelity_depth import DepthFidelity, MetricDepthFidelity
from unicond.evaluation.fidelity_maps import EdgeFidelity, NormalFidelity, SegmentationFidelity
from unicond.evaluation.fidelity_people import IdentityFidelity, PoseFidelity
from unicond.evaluation.metrics_pictures import psnr
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.subject import Way

FIDELITIES: dict[str, Fidelity] = {
    "depth": DepthFidelity(),
    "depth-metric": MetricDepthFidelity(),
    "softedge": EdgeFidelity(),
    "pose": PoseFidelity(),
    "identity": IdentityFidelity(),
    "appearance": AppearanceFidelity(),
    "segmentation": SegmentationFidelity(),
    "normals": NormalFidelity(),
}
"""How each condition is measured."""


def ways(condition: Condition, config: JointConfig) -> tuple[Way, ...]:
    """The ways in which a held branch is measured: aligned only where it was trained so."""
    aligned = condition.aligned and "aligned" in config.attention
    return ("two_way", "one_way", *(("aligned",) if aligned else ()))


def own_way(config: JointConfig, role: Role) -> Way:
    """The way that the model itself takes where a branch is held in a role."""
    if role not in config.roles:
        return "two_way"
    return "aligned" if config.attention[-1] == "aligned" else "one_way"


def measures(
    condition: Condition, config: JointConfig, coarse: Sequence[float] = ()
) -> list[Measure[Chunk]]:
    """Everything that a condition's table needs, cheap ones first.

    Args:
        condition: what is paired with the image.
        config: of the adapter.
        coarse: times up to which the condition is coarse, for further measures.

    Returns:
        Measures whose names are those of the rows.
    """
    fidelity = FIDELITIES[condition.name]
    chosen = ways(condition, config)
    found = [_probe_real(fidelity), _probe_reconstruction(fidelity, condition)]
    if condition.aligned:
        found.append(_drawing_reconstruction(fidelity))
    found += [_to_condition(fidelity, way) for way in chosen]
    found.append(_text_only(fidelity))
    found += [_to_image(fidelity, f"to_image_{way}", way=way) for way in chosen]
    found.append(_joint(fidelity))
    return found + [_to_image(fidelity, f"coarse_{noise:g}", noise) for noise in coarse]


def _probe_real(fidelity: Fidelity) -> Measure[Chunk]:
    """The judge on the real images."""

    def run(chunk: Chunk) -> Samples:
        chunk.keep("real", chunk.cases.images)
        chunk.keep("condition", chunk.cases.condition)
        values = {**fidelity.of_judge(chunk), **chunk.seen(chunk.real)}
        return Samples(values, features(chunk.real))

    return Measure("probe_real", run)


def _probe_reconstruction(fidelity: Fidelity, condition: Condition) -> Measure[Chunk]:
    """The judge on the autoencoder's reconstructions, and their PSNR."""

    def run(chunk: Chunk) -> Samples:
        images = chunk.subject.reconstruct(chunk.cases.images)
        drawn = chunk.subject.reconstruct(chunk.cases.condition)
        chunk.keep("probe_reconstruction", images)
        samples = image_scores(chunk, fidelity, images)
        quality = {
            "psnr": as_list(psnr(images, chunk.cases.images)),
            f"psnr_{condition.branch}": as_list(psnr(drawn, chunk.cases.condition)),
        }
        return Samples({**samples.values, **quality}, samples.vectors)

    return Measure("probe_reconstruction", run)


def _drawing_reconstruction(fidelity: Fidelity) -> Measure[Chunk]:
    """Exact drawings that went through the autoencoder, read back."""

    def run(chunk: Chunk) -> Samples:
        drawn = chunk.subject.reconstruct(chunk.cases.condition)
        return Samples(fidelity.of_drawings(chunk, drawn))

    return Measure("drawing_reconstruction", run)


def _text_only(fidelity: Fidelity) -> Measure[Chunk]:
    """Images from the prompts alone."""

    def run(chunk: Chunk) -> Samples:
        images = chunk.subject.text_to_image(chunk.cases.captions, chunk.cases.seeds)
        chunk.keep("text_only", images)
        return image_scores(chunk, fidelity, images)

    return Measure("text_only", run)


def _to_image(
    fidelity: Fidelity, name: str, noise: float = 0.0, way: Way | None = None
) -> Measure[Chunk]:
    """Images from prompt and condition; the condition coarse up to time `noise`."""

    def run(chunk: Chunk) -> Samples:
        cases = chunk.cases
        images = chunk.subject.to_image(cases.captions, cases.seeds, cases.condition, noise, way)
        chunk.keep(name, images)
        return image_scores(chunk, fidelity, images)

    return Measure(name, run)


def _to_condition(fidelity: Fidelity, way: Way) -> Measure[Chunk]:
    """Condition pictures of the real images."""
    name = f"to_condition_{way}"

    def run(chunk: Chunk) -> Samples:
        drawn = chunk.subject.estimate(chunk.cases.images, chunk.cases.seeds, way)
        chunk.keep(name, drawn)
        return Samples(fidelity.of_drawings(chunk, drawn))

    return Measure(name, run)


def _joint(fidelity: Fidelity) -> Measure[Chunk]:
    """Image and condition from the prompts: do they agree?

    `<metric>_shuffled` scores every condition picture against the next image of the chunk instead.
    """

    def run(chunk: Chunk) -> Samples:
        images, drawn = chunk.subject.joint(chunk.cases.captions, chunk.cases.seeds)
        chunk.keep("joint_image", images)
        chunk.keep("joint_condition", drawn)
        reading = chunk.judge(images)
        own = fidelity.of_pairs(chunk, reading, drawn)
        other = fidelity.of_pairs(chunk, reading, drawn.roll(1, 0))
        alone: list[float | None] = [None] * len(images)
        shuffled = {
            f"{name}_shuffled": alone if len(images) == 1 else values
            for name, values in other.items()
        }
        return Samples({**own, **shuffled, **chunk.seen(reading)}, features(reading))

    return Measure("joint", run)
