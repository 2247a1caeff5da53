"""Editing a given picture by words, by any pair of an inversion and an attention method.

    direct+p2p       inversion by `direct`, prompt-to-prompt on the way down
    edict            an inversion alone
    sdedit, diffedit, semantic       methods of their own
    style_injection  drawn as another picture is, `style`; without guidance of text where none is
                     asked, since that would pull the colours back

Where no method is asked for, a style is injected, words that can be aligned with what the picture
shows are exchanged (`USUAL`), and a picture of which no words are known is drawn over (`UNTOLD`).

Prompt-to-prompt swaps words that stand one for one and refines else (or as `align` says), scales
words by `weight`, and changes the picture only where the `subject` is. MasaCtrl keeps the subject
apart from its background.

Source and target walk side by side, the picture's own words at the source. What `keep` names is
read from the picture by the model itself (its depth, its edges) and held as a condition of the
target: an edit under the picture's own depth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Self, cast, get_args

from torch import Tensor
from typing_extensions import override

from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.calls.request import Given, Reference
from unicond.mechanisms.attention import words
from unicond.mechanisms.attention.masactrl import MasaCtrl, Subject
from unicond.mechanisms.attention.plug_and_play import PlugAndPlay
from unicond.mechanisms.attention.prompt_to_prompt import LocalBlend, PromptToPrompt
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

Align = Literal["swap", "refine"]
Per = Literal["value", "pixel"]
USUAL, UNTOLD = "direct+p2p", "sdedit"
"""The method where the picture's own words are known, and where they are not."""
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
    "edict+p2p",
    "edit_friendly+masactrl",
)
"""The ten pairs that the table of tasks compares; any other pair can be asked for, too."""
UNPAIRED = ("edict", "edit_friendly")
"""The inversions that it compares alone."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "align": ("p2p",),
    "weight": ("p2p", "semantic"),
    "subject": ("p2p", "masactrl"),
    "source_subject": ("p2p", "masactrl"),
    "scale": ("semantic",),
    "per": ("semantic",),
    "style": ("style_injection",),
    "style_prompt": ("style_injection",),
}
"""{what only some methods take: their names}."""
SCALE = 7.0
"""Of a semantic edit, where nothing is asked."""


@dataclass(frozen=True, eq=False)
class Edit(Task):
    """Change a picture as words say.

    Args:
        picture: to be changed.
        prompt: what it is to show; of `semantic`, what is to be added.
        source_prompt: what it shows; methods that align words need it.
        method: `INVERSION+ATTENTION`, an inversion alone, or one of `ALONE`; None is that of
            `chosen`.
        strength: share of the way to noise that is gone, in (0, 1]; None is the method's own.
        keep: conditions of the model that stay as they are in the picture.
        align: of p2p: `"swap"` (word for word) or `"refine"` (the words that both prompts have);
            None swaps where the words stand one for one.
        weight: of p2p: {words of the prompt: factor of their maps}; of `semantic`: {text: scale} of
            further edits.
        subject: of p2p and masactrl: words of the prompt; p2p changes nothing outside of where they
            are, masactrl keeps them apart from the background.
        source_subject: the words for it in the source's prompt; "" are the same words.
        scale: of `semantic`'s edit; negative takes it away, None is 7.
        per: of `semantic`: whether each `"value"` is masked or each `"pixel"`; None is by value.
        style: of `style_injection`: the picture that shows how it is to look.
        style_prompt: what that one shows.

    Raises:
        ValueError: an unknown method, a strength out of range, a style that is missing, an option
            that the method does not take, or a weight of the prompt itself beside `scale`.
    """

    PICTURES: ClassVar[frozenset[str]] = frozenset({"picture", "style"})

    picture: Picture
    prompt: str
    source_prompt: str = field(default="", kw_only=True)
    method: str | None = field(default=None, kw_only=True)
    strength: float | None = field(default=None, kw_only=True)
    keep: tuple[str, ...] = field(default=(), kw_only=True)
    align: Align | None = field(default=None, kw_only=True)
    weight: Mapping[str, float] = field(default_factory=dict[str, float], kw_only=True)
    subject: str = field(default="", kw_only=True)
    source_subject: str = field(default="", kw_only=True)
    scale: float | None = field(default=None, kw_only=True)
    per: Per | None = field(default=None, kw_only=True)
    style: Picture | None = field(default=None, kw_only=True)
    style_prompt: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        self._check_options(self.parts())
        if self.chosen() == "semantic" and self.prompt in self.weight:
            raise ValueError(
                f"weight names the prompt itself, {self.prompt!r}: weight is of further edits, so "
                "give the prompt's own as scale (--scale)"
            )
        if self.style is None and self.chosen() == "style_injection":
            raise ValueError("style_injection takes its look from a picture: give style (--style)")
        if self.source_subject and not self.subject:
            raise ValueError("source_subject is the source's word for a subject: give both")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(
                f"strength {self.strength} must be in (0, 1]: small changes little, 1 all"
            )

    def chosen(self) -> str:
        """The method: what is asked for, or what follows from what is given.

        Returns:
            `style_injection` with a style, `USUAL` with the words that p2p needs or an option of
            it, else `UNTOLD`.
        """
        if self.method is not None:
            return self.method
        if self.style is not None:
            return "style_injection"
        exchanged = self.source_prompt or self.align or self.weight or self.subject
        return USUAL if exchanged else UNTOLD

    def parts(self) -> tuple[str, str]:
        """What the method is made of.

        Returns:
            Its inversion (or itself) and its attention, "" where it has none.

        Raises:
            ValueError: there is no such method.
        """
        method = self.chosen()
        inversion, _, attention = method.partition("+")
        alone = method in ALONE
        if not alone and (inversion not in INVERSIONS or attention not in ("", *ATTENTIONS)):
            raise ValueError(
                f"no method {method!r}: write INVERSION+ATTENTION with one of "
                f"{', '.join(INVERSIONS)} and one of {', '.join(ATTENTIONS)}, an inversion alone, "
                f"or {', '.join(ALONE)}"
            )
        if attention == "p2p" and not self.source_prompt:
            raise ValueError(
                f"{method!r} aligns the words of both prompts: say what the picture shows "
                "with source_prompt (--source-prompt), or use a method without p2p"
            )
        return inversion, attention

    @override
    def settled(self, model: Model) -> Self:
        return replace(self, method=self.chosen())

    @override
    def made(self, model: Model, callback: Callback | None) -> tuple[Tensor | None, Output]:
        before, manner = self.read(self.picture, model), self.attention(model)
        kept = self._kept(model, before)
        hold = dict.fromkeys(kept, 0.0)
        prompt, route = self.prompt, self.route(model, hold)
        if self.chosen() == "semantic":
            prompt = self.source_prompt
        shown = {"source": Reference(prompt=self.source_prompt, picture=self.picture)}
        if self.style is not None:
            shown["style"] = Reference(prompt=self.style_prompt, picture=self.style)
        beside = {branch: shown[branch] for branch in route.branches if branch != "image"}
        out = model.only(*model.adapters)(
            prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            count=self.count,
            size=(before.shape[-2], before.shape[-1]),
            branches=["image", *kept],
            references=beside,
            solver=route.solver,
            plan=route.plan,
            guidance_scale=self._guidance(),
            mechanisms=[*route.mechanisms, *manner, *route.inner],
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
        """What acts on the way down.

        Args:
            model: whose tokenizer reads the prompts.

        Returns:
            Mechanisms of attention.

        Raises:
            ValueError: words that are not in a prompt, or that cannot be aligned.
        """
        _, attention = self.parts()
        if self.chosen() == "semantic":
            texts = {self.prompt: SCALE if self.scale is None else self.scale, **self.weight}
            edits = [semantic.Edit(prompt=text, scale=scale) for text, scale in texts.items()]
            return [semantic.SemanticGuidance(edits=edits, per=self.per or "value")]
        if attention == "p2p":
            return [self._exchange(model.backbone.tokenizers[0])]
        if self.chosen() == "style_injection":
            return [StyleInjection(target="image")]
        if attention == "pnp":
            return [PlugAndPlay(target="image")]
        if attention == "masactrl":
            places = self._places(model.backbone.tokenizers[0]) if self.subject else None
            subject = None if places is None else Subject(source=places[0], target=places[1])
            return [MasaCtrl(target="image", subject=subject)]
        return []

    def _guidance(self) -> float | None:
        """Of text: none where a picture shows the style, whose colours it would pull back."""
        unsaid = self.guidance_scale is None and self.chosen() == "style_injection"
        return 1.0 if unsaid else self.guidance_scale

    def _exchange(self, tokenizer: words.Tokenizer) -> PromptToPrompt:
        align = {"swap": words.swapped, "refine": words.refined, None: words.aligned}[self.align]
        both = align(tokenizer, self.source_prompt, self.prompt)
        scales = words.scales(tokenizer, self.prompt, self.weight) if self.weight else None
        places = self._places(tokenizer) if self.subject else None
        blend = None if places is None else LocalBlend(source=places[0], target=places[1])
        return PromptToPrompt(target="image", alignment=both, scales=scales, blend=blend)

    def _places(self, tokenizer: words.Tokenizer) -> tuple[Tensor, Tensor]:
        """Where the subject is in the source's prompt, and in the target's."""
        theirs = self.source_subject or self.subject
        source = words.places(tokenizer, self.source_prompt, [theirs])
        return source, words.places(tokenizer, self.prompt, [self.subject])

    def _check_options(self, parts: tuple[str, str]) -> None:
        given = {
            "align": self.align is not None,
            "weight": bool(self.weight),
            "subject": bool(self.subject),
            "source_subject": bool(self.source_subject),
            "scale": self.scale is not None,
            "per": self.per is not None,
            "style": self.style is not None,
            "style_prompt": bool(self.style_prompt),
        }
        for name, value, known in (("align", self.align, Align), ("per", self.per, Per)):
            if value not in (None, *get_args(known)):
                raise ValueError(f"{name} {value!r} is none of {', '.join(get_args(known))}")
        for name, methods in OPTIONS.items():
            if given[name] and not set(methods) & set(parts):
                raise ValueError(
                    f"{self.chosen()!r} takes no {name}: it is of {' and '.join(methods)}; leave "
                    "it out, or choose another method"
                )

    def _kept(self, model: Model, picture: Tensor) -> dict[str, Given]:
        """{condition: its picture}, as the model reads it from the image at the run's size."""
        missing = [branch for branch in self.keep if branch not in model.adapters]
        if missing:
            raise ValueError(
                f"keep names {missing[0]!r}, and no adapter of this model is for it; it has "
                f"{', '.join(model.adapters) or 'none'}"
            )
        if not self.keep:
            return {}
        read = model.only(*model.adapters)(image=picture, branches=list(self.keep), seed=self.seed)
        return {branch: Given(read.pictures[branch], fit="keep") for branch in self.keep}
