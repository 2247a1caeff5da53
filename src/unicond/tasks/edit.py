"""Editing a given picture by words, by any pair of an inversion and an attention method.

    direct+p2p       inversion by `direct`, prompt-to-prompt on the way down
    edict            an inversion alone
    sdedit, diffedit, semantic       methods of their own
    style_injection  drawn as another picture is, `style`

Source and target walk side by side, the picture's own words at the source. What `keep` names is
read from the picture by the model itself (its depth, its edges) and held as a condition of the
target: an edit under the picture's own depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast, get_args

from torch import Tensor
from typing_extensions import override

from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Reference
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.masactrl import MasaCtrl
from unicond.mechanisms.attention.plug_and_play import PlugAndPlay
from unicond.mechanisms.attention.prompt_to_prompt import PromptToPrompt
from unicond.mechanisms.attention.style_injection import StyleInjection
from unicond.mechanisms.blending import semantic
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.mechanisms.inversion.ddim import DDIMInversion
from unicond.mechanisms.inversion.methods import Edit as Route
from unicond.mechanisms.inversion.methods import Method, plan_edit
from unicond.mechanisms.inversion.paths import latest, up_and_down
from unicond.model import Model
from unicond.pictures.decoding import Source as Picture
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism
from unicond.tasks.base import Task

INVERSIONS = tuple(name for name in get_args(Method) if name != "sdedit")
ATTENTIONS = ("p2p", "pnp", "masactrl")
ALONE = ("sdedit", "diffedit", "semantic", "style_injection")
STRENGTHS: Mapping[str, float] = {
    "sdedit": 0.75,
    "diffedit": 0.9,
    "semantic": 0.8,
    "edit_friendly": 0.64,
    "edict": 0.7,
}
"""What of the times is used where nothing is asked; 1.0 of what is not named."""

NAMED = (
    "ddim+p2p",
    "fixed_point+p2p",
    "null_text+p2p",
    "negative_prompt+p2p",
    "direct+p2p",
    "edit_friendly+p2p",
    "direct+pnp",
    "direct+masactrl",
    "edict",
    "edit_friendly",
)
"""The ten pairs that the table of tasks compares; any other pair can be asked for, too."""


@dataclass(frozen=True, eq=False)
class Edit(Task):
    """Change a picture as words say.

    Args:
        picture: to be changed.
        prompt: what it is to show; of `semantic`, what is to be added.
        source_prompt: what it shows; methods that align words need it.
        method: `INVERSION+ATTENTION`, an inversion alone, or one of `ALONE`.
        strength: share of the way to noise that is gone, in (0, 1]; None is the method's own.
        keep: conditions of the model that stay as they are in the picture.
        scale: of `semantic`'s edit; negative takes it away.
        style: of `style_injection`: the picture that shows how it is to look.
        style_prompt: what that one shows.

    Raises:
        ValueError: an unknown method, a strength out of range, or a style that is missing or that
            the method does not take.
    """

    PICTURES: ClassVar[frozenset[str]] = frozenset({"picture", "style"})

    picture: Picture
    prompt: str
    source_prompt: str = field(default="", kw_only=True)
    method: str = field(default="direct+p2p", kw_only=True)
    strength: float | None = field(default=None, kw_only=True)
    keep: tuple[str, ...] = field(default=(), kw_only=True)
    scale: float = field(default=7.0, kw_only=True)
    style: Picture | None = field(default=None, kw_only=True)
    style_prompt: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        self.parts()
        if (self.style is None) == (self.method == "style_injection"):
            raise ValueError(
                "style_injection takes its look from a picture: give style (--style)"
                if self.style is None
                else f"{self.method!r} takes no picture of a style: use method='style_injection'"
            )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(
                f"strength {self.strength} must be in (0, 1]: small changes little, 1 all"
            )

    def parts(self) -> tuple[str, str]:
        """What the method is made of.

        Returns:
            Its inversion (or itself) and its attention, "" where it has none.

        Raises:
            ValueError: there is no such method.
        """
        inversion, _, attention = self.method.partition("+")
        alone = self.method in ALONE
        if not alone and (inversion not in INVERSIONS or attention not in ("", *ATTENTIONS)):
            raise ValueError(
                f"no method {self.method!r}: write INVERSION+ATTENTION with one of "
                f"{', '.join(INVERSIONS)} and one of {', '.join(ATTENTIONS)}, an inversion alone, "
                f"or {', '.join(ALONE)}"
            )
        if attention == "p2p" and not self.source_prompt:
            raise ValueError(
                f"{self.method!r} aligns the words of both prompts: say what the picture shows "
                "with source_prompt (--source-prompt), or use a method without p2p"
            )
        return inversion, attention

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        before = self.read(self.picture, model)
        kept = self._kept(model, before)
        hold = dict.fromkeys(kept, 0.0)
        prompt, route = self.prompt, self.route(model, hold)
        if self.method == "semantic":
            prompt = self.source_prompt
        shown = {"source": Reference(prompt=self.source_prompt, picture=self.picture)}
        if self.style is not None:
            shown["style"] = Reference(prompt=self.style_prompt, picture=self.style)
        beside = {branch: shown[branch] for branch in route.branches if branch != "image"}
        out = model(
            prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            count=self.count,
            size=(before.shape[-2], before.shape[-1]),
            branches=["image", *kept],
            references=beside,
            solver=route.solver,
            plan=route.plan,
            guidance_scale=self.guidance_scale,
            mechanisms=[*route.mechanisms, *self.attention(model), *route.inner],
            callback=callback,
            image=self.picture,
            **kept,  # pyright: ignore[reportArgumentType] (names are branches)
        )
        return before, out

    def route(self, model: Model, hold: Mapping[str, float]) -> Route:
        """Plan, solver and mechanisms of the inversion.

        Args:
            model: whose schedule it is.
            hold: {condition: time that it stays at}.

        Returns:
            What one call of the model needs.
        """
        inversion, _ = self.parts()
        times, usual = self.times(model), STRENGTHS.get(inversion, 1.0)
        strength = usual if self.strength is None else self.strength
        if inversion == "diffedit":
            method = DiffEdit(source=self.source_prompt or "negative", strength=strength)
            start = {"image": 0.0, **hold}
            return Route(("image",), method.plan(times, start), DDIM(), (method,), hold=hold)
        if inversion == "style_injection":
            branches = ("source", "style", "image")
            up = DDIMInversion(target="image")
            used = latest(times, strength)
            return Route(branches, up_and_down(used, branches, hold), DDIM(), (up,), hold=hold)
        name = "edit_friendly" if inversion == "semantic" else inversion
        return plan_edit(cast(Method, name), times, strength=strength, target="image", hold=hold)

    def attention(self, model: Model) -> Sequence[Mechanism]:
        """What acts on the way down."""
        _, attention = self.parts()
        if self.method == "semantic":
            return [
                semantic.SemanticGuidance(
                    edits=[semantic.Edit(prompt=self.prompt, scale=self.scale)]
                )
            ]
        if attention == "p2p":
            tokenizer = model.backbone.tokenizers[0]
            count = [len(words.words_of(tokenizer, p)) for p in (self.source_prompt, self.prompt)]
            align = words.swapped if count[0] == count[1] else words.refined
            both = align(tokenizer, self.source_prompt, self.prompt)
            return [PromptToPrompt(target="image", alignment=both)]
        if self.method == "style_injection":
            return [StyleInjection(target="image")]
        made = {"pnp": PlugAndPlay, "masactrl": MasaCtrl}
        return [made[attention](target="image")] if attention else []

    def _kept(self, model: Model, picture: Tensor) -> dict[str, Tensor]:
        """{condition: its picture}, as the model reads it from the image."""
        missing = [branch for branch in self.keep if branch not in model.adapters]
        if missing:
            raise ValueError(
                f"keep names {missing[0]!r}, and no adapter of this model is for it; it has "
                f"{', '.join(model.adapters) or 'none'}"
            )
        if not self.keep:
            return {}
        read = model(image=picture, branches=list(self.keep), seed=self.seed)
        return {branch: read.pictures[branch] for branch in self.keep}
