"""Training of the probe on renders and their exact annotations, never on generated pictures.

A share of the pictures went through the autoencoder (they are renders still), others are blurred,
grained or lose half of their colour's resolution: a judge must not be misled by such traces.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from unicond.data.renders import as_picture
from unicond.evaluation.probes import WHOLE, Probe, ProbeConfig, ProbeMaps
from unicond.training import sheets
from unicond.training.budget import Budget
from unicond.training.labels import NOBODY, NOT_SAID, Labels, middle_offsets
from unicond.training.loop import LoopConfig
from unicond.training.processes import Part
from unicond.world.vocabulary import CLASSES, KEYPOINTS, PARTS

MAPS = ("image", "depth", "normals", "edges", "classes", "colors", "parts", "instances")
"""What is read of every render."""
SKY, GROUND, PERSON = (CLASSES.index(name) for name in ("sky", "ground", "person"))
SKIN = PARTS.index("skin")


@dataclass(frozen=True, kw_only=True)
class ProbeTrainingConfig:
    """The probe and how it is trained.

    Args:
        probe: its size.
        scenes: training scenes.
        reconstructed_scenes: of the first so many there are copies that went through the
            autoencoder; 0 trains without one.
        reconstructed_share: share of such copies among the samples.
        blur_share: share of pictures that are blurred a little.
        grain: greatest standard deviation of added noise, in [-1, 1] units.
        points_weight: of the keypoints' loss; the others weigh 1.
        sigma: radius of a keypoint's heat in pixels of the half-size map.
        loop: how it is optimised.
    """

    probe: ProbeConfig = field(default_factory=lambda: ProbeConfig(widths=(32, 64, 128, 256)))
    scenes: int = 16384
    reconstructed_scenes: int = 8192
    reconstructed_share: float = 0.25
    blur_share: float = 0.3
    grain: float = 0.06
    points_weight: float = 2.0
    sigma: float = 1.3
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=16, lr=2e-3, matrix_lr=2e-3, budget=Budget(minutes=45), average=0.998
        )
    )

    def __post_init__(self) -> None:
        shares = (self.reconstructed_share, self.blur_share)
        if min(shares) < 0 or max(shares) > 1 or self.grain < 0:
            raise ValueError(f"shares must be in [0, 1] and grain not negative, got {shares}")
        if not 0 <= self.reconstructed_scenes <= self.scenes:
            raise ValueError("reconstructed_scenes must be 0 to scenes")
        if self.sigma <= 0 or self.points_weight < 0:
            raise ValueError("sigma must be positive and points_weight not negative")


@dataclass(frozen=True)
class Annotated:
    """N renders as uint8 maps (`MAPS`), with labels.

    Args:
        maps: {name: (N, ...)}.
        labels: of the same scenes.
        reconstructed: (M, 3, H, W) uint8, the first M through the autoencoder; or None.
    """

    maps: dict[str, Tensor]
    labels: Labels
    reconstructed: Tensor | None = None


class ProbeTask:
    """The probe as a `Task` of the loop."""

    def __init__(
        self,
        config: ProbeTrainingConfig,
        train: Annotated,
        held: Annotated,
        probe: Probe | None = None,
    ) -> None:
        self.config, self.train, self.held = config, train, held
        self.device = train.maps["image"].device
        self.probe = probe or Probe(config.probe)
        self.probe.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def trained(self) -> nn.Module:
        """The probe."""
        return self.probe

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Losses of a part of a random batch: every map's, every choice's, the keypoints'."""
        total = len(self.train.maps["image"])
        rows = torch.randint(total, (part.count,), generator=generator, device=self.device)
        pictures = part.of(self._pictures(rows, generator))
        read = self.probe(pictures.contiguous(memory_format=torch.channels_last))
        return sum_losses(read, self.train, part.of(rows), self.config)

    def _pictures(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Training pictures: renders, some through the autoencoder, some worn."""
        config, copies = self.config, self.train.reconstructed
        pictures = self.train.maps["image"][rows]

        def chance() -> Tensor:
            return torch.rand(len(rows), generator=generator, device=self.device)

        if copies is not None and len(copies):
            swap = (chance() < config.reconstructed_share) & (rows < len(copies))
            other = copies[rows.clamp_max(len(copies) - 1)]
            pictures = torch.where(swap[:, None, None, None], other, pictures)
        pictures = as_picture(pictures)
        soft = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), "replicate"), 3, 1)
        share = (0.8 * chance() * (chance() < config.blur_share))[:, None, None, None]
        pictures = pictures + share * (soft - pictures)
        noise = torch.randn(pictures.shape, generator=generator, device=self.device)
        grain = (config.grain * chance() * (chance() < 0.5))[:, None, None, None]
        return (pictures + grain * noise).clamp(-1, 1)

    def read(self, pictures: Tensor) -> ProbeMaps:
        """The probe's reading of pictures in [-1, 1], without gradients."""
        with torch.no_grad():
            return self.probe(pictures.contiguous(memory_format=torch.channels_last))

    def scores(self) -> dict[str, float]:
        """Held-out accuracies of everything that is read.

        All are shares of what is right, but `inverse_depth_error` (mean, of a range of 1, without
        the sky), `normals_degrees` (mean angle, without the sky) and `edges_emse` (mean squared
        error in [0, 1] where the exact map is not 0).
        """
        maps = self.held.maps
        count = min(128, len(maps["image"]))
        rows = torch.arange(count, device=self.device)
        read = self.read(as_picture(maps["image"][:count]))
        exact = {name: values[:count] for name, values in maps.items()}
        whole = torch.cat([read.style, read.ground, read.sky], 1).float()
        picks = [part.argmax(1) for part in whole.split(list(WHOLE.values()), 1)]
        said = torch.stack(picks, 1) == self.held.labels.whole[rows]
        return {
            **labels_read(read, exact),
            **maps_read(read, exact),
            "style_ground_sky": float(said.float().mean()),
            "keypoints": keypoint_recall(read, self.held.labels, rows),
        }

    def show(self, folder: Path) -> None:
        """Pictures, their depth, normals and classes: exact, and as read."""
        maps, n = self.held.maps, 12
        read = self.read(as_picture(maps["image"][:n]))
        scale = 2 / (len(CLASSES) - 1)
        exact = [as_picture(maps[name][:n]) for name in ("image", "depth", "normals")]
        rows = [exact[0], exact[1], read.depth, exact[2], read.normals]
        rows += [maps["classes"][:n, None] * scale - 1, read.classes.argmax(1)[:, None] * scale - 1]
        heat = functional.interpolate(
            read.keypoints.sigmoid().amax(1, keepdim=True), scale_factor=2
        )
        sheets.write(folder / "samples.png", [*rows, 2 * heat - 1])


def sum_losses(
    read: ProbeMaps, data: Annotated, rows: Tensor, config: ProbeTrainingConfig
) -> Tensor:
    """(B,) the sum of all losses of a reading against the exact maps of scenes `rows`."""
    maps = {name: values[rows] for name, values in data.maps.items() if name != "image"}
    classes, parts = maps["classes"].long(), maps["parts"].long()
    instances = maps["instances"].long()
    labels = data.labels
    skins = labels.skins[rows].gather(1, instances.flatten(1)).view_as(classes)
    skins = torch.where(parts == SKIN, skins, NOT_SAID)
    depth, valid = as_picture(maps["depth"]), (classes != SKY)[:, None]
    # relative errors count: those of what is far are larger
    weight = torch.where(valid, 0.6 / (0.5 * (depth + 1) + 0.15), 0.5)
    total = _mean(weight * (read.depth.float() - depth).abs())
    total = total + _mean((read.normals.float() - as_picture(maps["normals"])).abs())
    if "edges" in maps:
        total = total + _mean((read.edges.float() - as_picture(maps["edges"])).abs())
    for logits, truth in (
        (read.classes, classes),
        (read.colors, maps["colors"].long()),
        (read.parts, parts),
        (read.skins, skins),
    ):
        entropy = functional.cross_entropy(
            logits.float(), truth, reduction="none", ignore_index=NOT_SAID
        )
        total = total + _mean(entropy)
    whole = torch.cat([read.style, read.ground, read.sky], 1).float()
    for number, logits in enumerate(whole.split(list(WHOLE.values()), 1)):
        truth = labels.whole[rows, number]
        total = total + 0.1 * functional.cross_entropy(logits, truth, reduction="none")
    return total + _people_loss(read, labels, rows, instances, classes, config)


def _people_loss(
    read: ProbeMaps,
    labels: Labels,
    rows: Tensor,
    instances: Tensor,
    classes: Tensor,
    config: ProbeTrainingConfig,
) -> Tensor:
    """(B,) the keypoints' and the offsets' loss."""
    size = read.keypoints.shape[-1]
    heat = labels.heat(rows, size, config.sigma)
    entropy = functional.binary_cross_entropy_with_logits(
        read.keypoints.float(), heat, reduction="none"
    )
    points = _mean((1 + 20 * heat) * entropy)
    offsets, people = middle_offsets(instances[:, ::2, ::2], classes[:, ::2, ::2] == PERSON)
    gap = (read.offsets.float() - offsets).abs() * people[:, None]
    return config.points_weight * points + _mean(gap)


def labels_read(read: ProbeMaps, exact: dict[str, Tensor]) -> dict[str, float]:
    """Shares of pixels: classes; class and colour of things; colours and parts of people."""
    classes, colors = exact["classes"].long(), exact["colors"].long()
    things, people = (classes > GROUND) & (classes < PERSON), classes == PERSON
    right, colored = read.classes.argmax(1) == classes, read.colors.argmax(1) == colors
    parts = read.parts.argmax(1) == exact["parts"].long()
    return {
        "class_pixels": float(right.float().mean()),
        "class_color_on_things": float((right & colored)[things].float().mean()),
        "color_on_people": float(colored[people].float().mean()),
        "part_on_people": float(parts[people].float().mean()),
    }


def maps_read(read: ProbeMaps, exact: dict[str, Tensor]) -> dict[str, float]:
    """Errors of depth, normals and edges; see `ProbeTask.scores`."""
    seen = exact["classes"].long() != SKY
    depth, normals = (as_picture(exact[name]) for name in ("depth", "normals"))
    gap = (read.depth.float() - depth).abs()[:, 0][seen]
    cosine = functional.cosine_similarity(read.normals.float(), normals, dim=1)
    angle = cosine.clamp(-1, 1).acos().rad2deg()[seen]
    edges = (as_picture(exact["edges"]) + 1) / 2
    wrong = ((read.edges.float() + 1) / 2 - edges).square()[edges > 0]
    return {
        "inverse_depth_error": float(gap.mean() / 2),
        "normals_degrees": float(angle.mean()),
        "edges_emse": float(wrong.mean()),
    }


def keypoint_recall(read: ProbeMaps, labels: Labels, rows: Tensor) -> float:
    """Share of keypoints (of scenes with one person) whose heat peaks within 4 pixels at 128."""
    size = read.keypoints.shape[-1]
    peak = read.keypoints.flatten(2).argmax(2)
    points = labels.points[rows]
    real = points[:, :, 0] < NOBODY
    alone = (points[:, len(KEYPOINTS) :, 0] == NOBODY).all(1)[:, None] & real
    at = peak.gather(1, points[:, :, 0].long().clamp_max(NOBODY - 1))
    where = torch.stack([at % size, at // size], 2).float() + 0.5
    gap = (where - points[:, :, 1:] * size).square().sum(2).sqrt()
    return float((gap <= size / 32)[alone].float().mean()) if bool(alone.any()) else 0.0


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)
