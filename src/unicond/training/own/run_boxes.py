"""`unicond train gligen|interact|migc --data`: from pictures with boxes to a grounding adapter.

As with joint adapters, whatever can be found wrong is found before the base is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diffusers import UNet2DConditionModel
from torch import nn

from unicond.adapter_loading import check_name, find, named
from unicond.adapters import tensors
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.attach import check_fit
from unicond.backbones import loading as bases
from unicond.backbones.base import Backbone
from unicond.data.boxes import BoxedPictures, Scene, Unsaid, open_boxes
from unicond.training import processes
from unicond.training.diffusion import Noising
from unicond.training.grounding import GroundingTask
from unicond.training.journal import Report
from unicond.training.loop import fit
from unicond.training.own import checks, reading, steps
from unicond.training.own.box_sheet import SHOWN, BoxSheet
from unicond.training.own.boxes import BoxJob, latents_of, placed, slots_of
from unicond.training.own.pairs import Encoder, split_rows

Scenes = Mapping[int, Scene]
"""{row: what is where in its picture}, of those that have any things."""


def train_boxes(job: BoxJob, report: Report) -> Path:
    """Train a grounding adapter on one's own pictures with boxes.

    Args:
        job: what and how.
        report: told the share that is done and a line of text.

    Returns:
        The adapter's folder.

    Raises:
        ValueError: something does not fit; what was there before is there still.
    """
    dtype, device = steps.ready(job)
    start = _start(job)
    job = replace(job, recipe=replace(job.recipe, **_shape(job, start)))
    source = open_boxes(job.data)
    about = steps.agreed(job, source, checks.about_run(job, source.fingerprint(), {}))
    scenes = read_scenes(job, source, report)
    reading.check_count(job, len(scenes))
    train, held = split_rows(tuple(scenes), job.recipe.held_out, job.ROWS)
    network = checks.told_of(job)
    if network is not None:
        checks.check_room(job, _adapter(job, network, job.base, start))
    _check_pictures(job, source, report)
    backbone = bases.load(job.base, dtype, device)
    adapter = _adapter(job, backbone.network, named(backbone.name), start)
    if start is not None:
        adapter.load_state_dict(start.state_dict())
    checks.check_room(job, adapter)
    _check_phrases(backbone, scenes)
    parts = {row: scenes[row] for row in train}, {row: scenes[row] for row in held}
    task = _task(job, backbone, adapter, source, parts, report)
    scores = fit(task, job.recipe.loop, job.folder, job.resume, report, job.setup, about)
    if processes.this_process().is_main_process:
        data = f"{len(scenes)} pictures with {sum(len(one.boxes) for one in scenes.values())} boxes"
        steps.save(job, adapter, steps.described(f"{data}.", about), scores)
        report(1.0, f"{job.out} is ready: {use(job)}")
    return job.out


def use(job: BoxJob) -> str:
    """The command that uses the adapter."""
    return (
        f"unicond layout TEXT --base {job.base} --adapter {job.out} --method {job.what} "
        "--boxes FILE"
    )


def read_scenes(job: BoxJob, source: BoxedPictures, report: Report) -> Scenes:
    """Read what is where in every picture, which none is decoded for.

    Args:
        job: what is asked for.
        source: the pictures.
        report: told what the cut leaves out.

    Returns:
        {row: scene}, without pictures of which the cut leaves no thing.

    Raises:
        ValueError: of some it cannot be told, or it is more than the adapter takes.
    """
    found: dict[int, Scene] = {}
    faults: list[Exception] = []
    for row in range(len(source)):
        try:
            found[row] = source.scene(row)
        except (ValueError, OSError) as error:
            faults.append(error)
    if faults and len(faults) == sum(isinstance(one, Unsaid) for one in faults) == len(source):
        raise ValueError(
            f"no picture in {job.data.where} has a column {source.column}, which would say what is "
            "where in it: name another --column"
        )
    if faults:
        raise ValueError(reading.faulty(job, [*map(str, faults)], len(source)))
    _check_slots(job, list(found.values()))
    scenes = {row: scene for row, scene in found.items() if scene.phrases}
    _report_lost(job, found, scenes, report)
    return scenes


def _check_slots(job: BoxJob, scenes: Sequence[Scene]) -> None:
    """Refuse pictures that say more than the adapter takes."""
    method, most = job.recipe.method, job.recipe.slots
    counts = {scene.key: slots_of(scene, method) for scene in scenes}
    if many := {key: count for key, count in counts.items() if count > most}:
        named = ", ".join(f"{key} ({count})" for key, count in [*many.items()][: reading.NAMED])
        more = ", ..." if len(many) > reading.NAMED else ""
        what = "interactions and boxes in none" if method == "interact" else "boxes"
        raise ValueError(
            f"{len(many)} of {len(scenes)} pictures have more {what} than the adapter's {most} "
            f"slots: {named}{more}: give --slots {max(many.values())}, or remove some"
        )


def _report_lost(job: BoxJob, found: Scenes, scenes: Scenes, report: Report) -> None:
    """Say what is left out, and of InteractDiffusion whether nobody does anything."""
    if not processes.this_process().is_main_process:
        return
    lost = [(scene.key, phrase) for scene in found.values() for phrase in scene.lost]
    if lost:
        total = len(lost) + sum(len(scene.phrases) for scene in found.values())
        report(
            0.0,
            f"{len(lost)} of {total} boxes are left out: less than half of them is in the middle "
            f"square of their pictures (first {lost[0][1]!r} in {lost[0][0]})",
        )
    if rest := [scene.key for row, scene in found.items() if row not in scenes]:
        report(
            0.0, f"{len(rest)} of {len(found)} pictures have no boxes then, and are left out, too"
        )
    if job.recipe.method == "interact" and not any(one.interactions for one in scenes.values()):
        report(
            0.0,
            "no picture has interactions: the adapter learns where things are, and not what they "
            "do (`unicond train gligen` is for that)",
        )


def _check_pictures(job: BoxJob, source: BoxedPictures, report: Report) -> None:
    """Decode every picture once, and count those without captions."""

    def captioned(row: int) -> bool:
        source.picture(row)
        return bool(source.rows.row(row).captions)

    silent = reading.read_all(job, source, len(source), captioned, report)
    reading.check_captions(job, silent, len(source), report)


def _check_phrases(backbone: Backbone, scenes: Scenes) -> None:
    """Refuse phrases that the text encoder would cut, where that is not wanted."""
    for scene in scenes.values():
        if not scene.cut:
            acts = [action for _, action, _ in scene.interactions]
            try:
                backbone.check_phrases([*scene.phrases, *acts])
            except ValueError as error:
                raise ValueError(f"{scene.key}: {error}") from error


def _start(job: BoxJob) -> GroundingAdapter | None:
    """The adapter that the training starts from, if any."""
    if job.init is None:
        return None
    method, where = job.recipe.method, str(job.init)
    try:
        found = find(where, method)
    except OSError as error:
        raise ValueError(f"--init {where}: {error}") from error
    check_name(method, where, found)
    assert isinstance(found, GroundingAdapter)
    if job.slots not in (None, found.config.slots):
        raise ValueError(
            f"--init {where} takes {found.config.slots} things, and --slots is {job.slots}: leave "
            "out one of them"
        )
    return found


def _shape(job: BoxJob, start: GroundingAdapter | None) -> dict[str, object]:
    """Fields of the recipe that the command or the start tells."""
    if start is None:
        return {"slots": job.slots or job.recipe.slots}
    told: dict[str, object] = {"slots": start.config.slots, "hidden": start.config.hidden}
    return told | ({"blocks": tuple(start.widths)} if job.recipe.method == "migc" else {})


def _adapter(
    job: BoxJob, network: UNet2DConditionModel, base: str, start: GroundingAdapter | None
) -> GroundingAdapter:
    """A fresh adapter of a base, after all checks that its network allows."""
    if network.config["addition_embed_type"] is not None:
        raise ValueError(
            f"{job.base} has two text encoders (Stable Diffusion XL), and grounding adapters are "
            "told phrases by one: give a --base of Stable Diffusion 1.x or 2.x"
        )
    adapter = job.recipe.adapter(network, base)
    check_fit(network, adapter)
    if start is not None:
        check_fit(network, start)
        wanted, given = adapter.state_dict(), start.state_dict()
        tensors.check(wanted, given, f"--init {job.init}", "the base, and the adapter's shape,")
    return adapter


def _task(
    job: BoxJob,
    backbone: Backbone,
    adapter: GroundingAdapter,
    source: BoxedPictures,
    parts: tuple[Scenes, Scenes],
    report: Report,
) -> GroundingTask:
    """The adapter's task on these pictures: some to train on, some to take scores on."""
    recipe, setup = job.recipe, job.setup
    checks.check_side(recipe.side, backbone.multiple, backbone.name)
    noising = Noising.on(backbone.schedule, backbone.device)
    side, encoder = recipe.side or backbone.sample_size, Encoder(backbone, "")
    train, held = (
        placed(
            job,
            backbone,
            list(part.values()),
            latents_of(job, encoder, source, tuple(part), side, report),
            side,
        )
        for part in parts
    )
    at_once = recipe.loop.batch_size // setup.accumulate // processes.this_process().num_processes
    base = nn.ModuleDict({"unet": backbone.network, "text_encoder": backbone.text_encoders[0]})
    shown = [*parts[1].items()][:SHOWN]
    pictures = [source.picture(row, side) for row, _ in shown]
    sheet = BoxSheet(backbone, [scene for _, scene in shown], pictures, job.sample_steps)
    how = job.recompute, max(1, at_once), sheet
    return GroundingTask(recipe, adapter, base, noising, train, held, *how)
