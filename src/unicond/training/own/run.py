"""`unicond train joint --data`: from a folder of pairs to an adapter for any base.

Whatever can be found wrong before the work begins is found before the base is loaded: see `checks`.
"""

from dataclasses import replace
from pathlib import Path

from unicond.adapter_loading import named
from unicond.adapters.joint import JointAdapter
from unicond.backbones import loading as bases
from unicond.backbones.base import Backbone
from unicond.data.batches import BatchConfig
from unicond.data.sources import open_pairs
from unicond.training import processes, starting
from unicond.training.diffusion import Noising
from unicond.training.joint import JointTask
from unicond.training.journal import Report
from unicond.training.loop import fit
from unicond.training.own import checks, keeping, reading, steps
from unicond.training.own.job import OwnCondition, PictureJob, condition_of
from unicond.training.own.pairs import (
    Chosen,
    Encoder,
    FreshPairs,
    HeldPictures,
    KeptPairs,
    keep,
    split,
)
from unicond.training.own.sheet import Sheet
from unicond.training.pairs import TrainingPairs


def train_pictures(job: PictureJob, report: Report) -> Path:
    """Train a joint adapter on one's own pictures.

    Args:
        job: what and how.
        report: told the share that is done and a line of text.

    Returns:
        The adapter's folder.

    Raises:
        ValueError: something does not fit; what was there before is there still.
    """
    dtype, device = steps.ready(job)
    condition = condition_of(job.condition, job.trigger)
    source = open_pairs(job.data, job.condition)
    about = steps.agreed(job, source, checks.about(job, condition, source.fingerprint()))
    checks.check_start(job, condition)
    reading.check_count(job, len(source))
    parts = split(source, job.recipe.held_out)
    checks.check_base(job, condition)
    reading.check_pairs(job, source, report)
    backbone = bases.load(job.base, dtype, device)
    adapter = job.recipe.adapter(backbone.network, condition, named(backbone.name))
    tells = backbone.schedule.prediction_type
    adapter.config = replace(adapter.config, prediction_type=tells)
    if job.init is not None:
        _start_from(adapter, job.init)
    checks.check_room(job, adapter)
    task = _task(job, backbone, adapter, parts, report)
    scores = fit(task, job.recipe.loop, job.folder, job.resume, report, job.setup, about)
    if processes.this_process().is_main_process:
        data = f"{len(source)} pairs of pictures and {condition.shows}."
        steps.save(job, adapter, steps.described(data, about), scores)
        report(1.0, f"{job.out} is ready: {use(job, condition)}")
    return job.out


def use(job: PictureJob, condition: OwnCondition) -> str:
    """The command that uses the adapter."""
    return (
        f"unicond generate --base {job.base} --adapter {job.out} "
        f"--give {condition.branch}=FILE --prompt TEXT"
    )


def _start_from(adapter: JointAdapter, init: Path) -> None:
    """Give an adapter the weights of another one of the same shape."""
    old = starting.found(init, adapter.config.kind)
    try:
        starting.go_on_from_part(adapter, old, str(init))
    except ValueError as error:
        raise checks.misfit(init, old.config, adapter.config) from error


def _task(
    job: PictureJob,
    backbone: Backbone,
    adapter: JointAdapter,
    parts: tuple[Chosen, Chosen],
    report: Report,
) -> JointTask:
    """The adapter's task on these pictures: pairs to train on, pairs to take scores on."""
    recipe, setup, state = job.recipe, job.setup, processes.this_process()
    checks.check_side(recipe.side, backbone.multiple, backbone.name)
    side, (train, rest) = recipe.side or backbone.sample_size, parts
    encoder = Encoder(backbone, adapter.config.trigger)
    batch = recipe.loop.batch_size // setup.accumulate
    config = BatchConfig(
        batch_size=batch,
        area=side * side,
        multiple=backbone.multiple,
        augment=recipe.augment,
        seed=recipe.loop.seed,
    )
    at_once = max(1, batch // state.num_processes)
    held = HeldPictures.of(encoder, rest, side, at_once)
    sheet = Sheet(held, adapter.config.y, job.sample_steps, side)
    pairs: TrainingPairs = FreshPairs(encoder, train, config)
    if recipe.keep_latents:
        pairs = _kept(job, encoder, train, config, report)
    noising = Noising.on(backbone.schedule, backbone.device)
    return JointTask(recipe, adapter, backbone.network, noising, pairs, held, job.recompute, sheet)


def _kept(
    job: PictureJob, encoder: Encoder, source: Chosen, config: BatchConfig, report: Report
) -> KeptPairs:
    """Pairs whose latents are made now, where they are not there already."""
    state, order = processes.this_process(), config.order(source)
    share = state.process_index, state.num_processes
    folder = keep(encoder, source, order, job.cache, *share, keeping.told(report))
    state.wait_for_everyone()
    return KeptPairs(encoder, folder, source, order)
