"""Make a picture again from the record inside it."""

from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.record import Record, Shown, Source
from unicond.calls.request import MOVES, Given, Reference
from unicond.model import Model
from unicond.pictures.files import check_fingerprint
from unicond.tasks.registry import task_of


def check(record: Record) -> None:
    """Raise what can be told of a record before a model is there.

    Args:
        record: from a picture.

    Raises:
        ValueError: a given picture came from memory, is missing or has changed, the run used
            mechanisms of the caller's own, or several models that were aggregated, or its task is
            of another version.
    """
    if record.task is not None:
        task_of(record.task)
        return
    own = [*record.mechanisms, *(["moves of its own"] if record.plan == MOVES else [])]
    if own:
        raise ValueError(
            f"this picture was made with {', '.join(own)}, of which a record holds the name alone: "
            "make it again in Python, as it was made"
        )
    for branch, source in record.given.items():
        _given(branch, source)
    _shown(record.image_prompt)


def repeat(model: Model, record: Record, callback: Callback | None = None) -> Output:
    """Run a model as a record says.

    Args:
        model: the base and adapters that the record names.
        record: from a picture.
        callback: called after each move.

    Returns:
        What the run returned then.

    Raises:
        ValueError: as of `check`.
    """
    check(record)
    if record.task is not None:
        return task_of(record.task).run(model, callback)
    given = {branch: _given(branch, source) for branch, source in record.given.items()}
    references = {
        branch: Reference(prompt=prompts, picture=given[branch].picture, fit=given[branch].fit)
        if branch in given
        else Reference(prompt=prompts)
        for branch, prompts in record.references.items()
    }
    given = {b: one for b, one in given.items() if b not in references}
    joins = "image" in record.branches and any(b in record.adapters for b in record.branches)
    guided = joins or record.condition_guidance == 0  # else the base's own, which did nothing
    return model(
        record.prompts,
        negative_prompt=record.negative_prompt,
        seed=record.seeds,
        size=record.size,
        branches=[branch for branch in record.branches if branch not in references],
        references=references,
        num_inference_steps=record.num_inference_steps,
        solver=record.solver,
        spacing=record.spacing,
        eta=record.eta,
        guidance_scale=record.guidance_scale,
        condition_guidance=record.condition_guidance if guided else None,
        condition_guidance_against=record.condition_guidance and record.condition_guidance_against,
        perturbed_guidance=record.perturbed_guidance,
        guidance_window=record.guidance_window,
        joint_scale=record.joint_scale if joins else 1.0,
        conditioning_scale=record.conditioning_scale,
        held=record.held,
        attention=record.attention if joins else None,
        cache=record.cache,
        refresh=record.refresh,
        ensemble_size=record.ensemble_size,
        sampling=record.sampling,
        plan=record.plan,
        grounding=record.grounding or None,
        image_prompt=_shown(record.image_prompt),
        reconstruction_weight=record.reconstruction_weight,
        reconstruction_optimizer=record.reconstruction_optimizer,
        reconstruction_window=record.reconstruction_window,
        callback=callback,
        **given,  # pyright: ignore[reportArgumentType] (names are branches)
    )


def _shown(recorded: Shown | None) -> ImagePrompt | None:
    if recorded is None:
        return None
    if not recorded.files:
        raise ValueError(
            "the image prompt of this run was given from memory, not from a file: it cannot be "
            "found again"
        )
    pictures = [str(check_fingerprint(one)) for one in recorded.files]
    return ImagePrompt(pictures, recorded.scale, recorded.window)


def _given(branch: str, source: Source) -> Given:
    if not source.files or source.mask == ():
        raise ValueError(
            f"the {branch} of this run was given from memory, not from a file: it cannot be found "
            f"again"
        )
    pictures = [str(check_fingerprint(recorded)) for recorded in source.files]
    masks = [str(check_fingerprint(recorded)) for recorded in source.mask or ()]
    return Given(
        pictures[0] if len(pictures) == 1 else pictures,
        mask=masks[0] if masks else None,
        noise=source.noise,
        hold=source.hold,
        kind=source.kind,
        fit=source.fit,
        invert=source.invert,
        threshold=source.threshold,
        guide=source.guide,
    )
