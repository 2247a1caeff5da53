"""Every conditioning method, by the survey's groups: where it lives, what it costs, who found it.

Classes and functions are named, not imported, so that a list of them is quick. What can be derived
(seams, sources, pages, network calls) a test derives again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast

Seam = Literal["begin", "wrap", "revise", "settle", "plan", "solver"]
Group = Literal["inversion", "attention", "blending", "process", "guidance", "correction"]
Trained = Literal["no", "head", "classifier"]

GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "inversion": "find the start, and the noises, that lead back to a given picture",
        "attention": "read attention on one path, write it on another",
        "blending": "combine several predictions of one step",
        "process": "put what is known into the predicted picture",
        "guidance": "follow the gradient of an energy",
        "correction": "mend the state after the step",
    }
)
"""The survey's groups, and what each does."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method.

    Args:
        name: of the method.
        home: `"group.module:name"` of its class, or of the function that makes its plan, below
            `unicond.mechanisms`.
        seams: where it meets the loop. A `begin` that is only a check is none; a `"plan"` is a way
            of its own through the times, a `"solver"` makes the steps itself.
        calls: network calls a step (a time of the schedule) of a run with this method and no text
            guidance; a row is one more evaluation a sample in the same call, and a gradient runs
            back through the network.
        source: arXiv number of the method's paper, or its openreview id.
        memory: what is kept beside the step's own activations.
        trained: whether something beside the base was trained for it.
        page_name: of its page, where that is not the module's.
    """

    name: str
    home: str
    seams: tuple[Seam, ...]
    calls: str
    source: str
    memory: str = "none"
    trained: Trained = "no"
    page_name: str = ""

    @property
    def group(self) -> Group:
        """The survey's group: the folder that it is in."""
        return cast(Group, self.home.partition(".")[0])

    @property
    def made_by(self) -> str:
        """The name of the class or function."""
        return self.home.partition(":")[2]

    @property
    def page(self) -> str:
        """Its file in `docs/mechanisms/`."""
        return f"{self.page_name or self.home.partition('.')[2].partition(':')[0]}.md"

    @property
    def source_url(self) -> str:
        """Where the paper is read."""
        kind, _, number = self.source.rpartition(" ")
        if kind == "openreview":
            return f"https://openreview.net/forum?id={number}"
        return f"https://arxiv.org/abs/{number}"


_GRAPH = "a graph of the call"
_WAY = "the latents of the way up"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        name="SDEdit",
        home="inversion.sdedit:sdedit",
        seams=("plan",),
        calls="1",
        source="2108.01073",
    ),
    Entry(
        name="DDIM inversion",
        home="inversion.ddim:DDIMInversion",
        seams=("begin", "wrap", "settle"),
        calls="2 (up and down) + 1 row",
        memory=_WAY,
        source="2010.02502",
        page_name="ddim_inversion",
    ),
    Entry(
        name="fixed-point inversion",
        home="inversion.fixed_point:FixedPoint",
        seams=("begin", "wrap", "settle"),
        calls="up to 11 (10 up, 1 down) + 1 row",
        memory=_WAY,
        source="2309.04907",
    ),
    Entry(
        name="null-text inversion",
        home="inversion.null_text:NullText",
        seams=("wrap", "settle"),
        calls="up to 12 (1 up, 10 of the fit, 1 down), gradient, + 1 row",
        memory=f"{_WAY}, a graph of the fit, an embedding a step",
        source="2211.09794",
    ),
    Entry(
        name="negative-prompt inversion",
        home="inversion.negative_prompt:NegativePrompt",
        seams=("begin",),
        calls="2 (up and down) + 1 row",
        memory=_WAY,
        source="2305.16807",
    ),
    Entry(
        name="direct inversion",
        home="inversion.direct:Direct",
        seams=("settle",),
        calls="2 (up and down) + 1 row",
        memory=_WAY,
        source="2310.01506",
        page_name="direct_inversion",
    ),
    Entry(
        name="edit-friendly DDPM inversion",
        home="inversion.edit_friendly:EditFriendly",
        seams=("begin", "settle"),
        calls="1 + 1 row",
        memory="the picture's latents",
        source="2304.06140",
    ),
    Entry(
        name="EDICT",
        home="inversion.edict:EDICT",
        seams=("solver",),
        calls="4 (2 up, 2 down) + 1 row",
        memory=f"{_WAY}, a second state, both in float64",
        source="2211.12446",
    ),
    Entry(
        name="prompt-to-prompt",
        home="attention.prompt_to_prompt:PromptToPrompt",
        seams=("begin", "wrap", "settle"),
        calls="1 + 1 row",
        memory="the maps of a layer; with a blend, maps of both branches",
        source="2208.01626",
    ),
    Entry(
        name="plug-and-play",
        home="attention.plug_and_play:PlugAndPlay",
        seams=("begin", "wrap", "settle"),
        calls="1 + 1 row",
        source="2211.12572",
    ),
    Entry(
        name="MasaCtrl",
        home="attention.masactrl:MasaCtrl",
        seams=("begin", "wrap", "settle"),
        calls="1 + 1 row",
        memory="none; with masks, a bias a layer and maps of both branches",
        source="2304.08465",
    ),
    Entry(
        name="paint with words",
        home="attention.paint_with_words:PaintWithWords",
        seams=("wrap",),
        calls="1",
        memory="a bias a layer",
        source="2211.01324",
    ),
    Entry(
        name="style injection",
        home="attention.style_injection:StyleInjection",
        seams=("begin", "wrap", "settle"),
        calls="1 + 2 rows",
        source="2312.09008",
    ),
    Entry(
        name="classifier-free guidance",
        home="blending.classifier_free:ClassifierFree",
        seams=("wrap",),
        calls="1 + 1 row",
        source="2207.12598",
    ),
    Entry(
        name="condition guidance",
        home="blending.condition:ConditionGuidance",
        seams=("wrap",),
        calls="1 + 1 row",
        source="2410.11439",
        page_name="condition_guidance",
    ),
    Entry(
        name="perturbed-attention guidance",
        home="blending.perturbed:PerturbedAttention",
        seams=("wrap",),
        calls="1 + 1 row",
        source="2403.17377",
        memory="a bias a layer",
        page_name="perturbed_attention",
    ),
    Entry(
        name="composable diffusion",
        home="blending.composable:Composable",
        seams=("wrap",),
        calls="1 + 1 row a concept + 1 row",
        source="2206.01714",
    ),
    Entry(
        name="semantic guidance",
        home="blending.semantic:SemanticGuidance",
        seams=("wrap",),
        calls="1 + 1 row an edit + 1 row",
        source="2301.12247",
        page_name="semantic_guidance",
    ),
    Entry(
        name="MultiDiffusion, panorama",
        home="blending.multidiffusion:Panorama",
        seams=("wrap",),
        calls="1 a window",
        memory="the windows' predictions",
        source="2302.08113",
    ),
    Entry(
        name="MultiDiffusion, regions",
        home="blending.multidiffusion:Regions",
        seams=("wrap",),
        calls="1 + 1 row a region",
        source="2302.08113",
    ),
    Entry(
        name="NoiseCollage",
        home="blending.noise_collage:NoiseCollage",
        seams=("wrap",),
        calls="1 + 1 row an object",
        source="2403.03485",
    ),
    Entry(
        name="MagicFusion",
        home="blending.magic_fusion:MagicFusion",
        seams=("wrap",),
        calls="1 + 1 row, and 1 of the other model with 2 rows",
        memory="the other model",
        source="2303.13126",
    ),
    Entry(
        name="DDNM",
        home="process.ddnm:DDNM",
        seams=("revise", "settle"),
        calls="1",
        memory="the last predicted picture",
        source="2212.00490",
    ),
    Entry(
        name="DDRM",
        home="process.ddrm:DDRM",
        seams=("begin", "revise", "settle"),
        calls="1",
        source="2201.11793",
    ),
    Entry(
        name="classifier guidance",
        home="guidance.classifier:Classifier",
        seams=("revise",),
        calls="1 (and a gradient of the classifier)",
        memory="the classifier, a graph of its call",
        trained="classifier",
        source="2105.05233",
    ),
    Entry(
        name="DPS",
        home="guidance.dps:DPS",
        seams=("wrap",),
        calls="1, gradient",
        memory=_GRAPH,
        source="2209.14687",
    ),
    Entry(
        name="MCG",
        home="guidance.mcg:MCG",
        seams=("begin", "wrap", "settle"),
        calls="1, gradient",
        memory=_GRAPH,
        source="2206.00941",
    ),
    Entry(
        name="PiGDM",
        home="guidance.pigdm:PiGDM",
        seams=("wrap",),
        calls="1, gradient",
        memory=_GRAPH,
        source="openreview 9_gsMA8MRKQ",
    ),
    Entry(
        name="universal guidance",
        home="guidance.universal:Universal",
        seams=("wrap", "revise"),
        calls="1, gradient",
        memory=_GRAPH,
        source="2302.07121",
    ),
    Entry(
        name="FreeDoM, time travel",
        home="guidance.universal:travelled",
        seams=("plan",),
        calls="2 in the middle of the run, else 1, gradient",
        memory=_GRAPH,
        source="2303.09833",
    ),
    Entry(
        name="layout guidance",
        home="guidance.layout:Layout",
        seams=("wrap",),
        calls="up to 6 (5 of the layout), gradient",
        memory=_GRAPH,
        source="2304.03373",
    ),
    Entry(
        name="self-guidance",
        home="guidance.self_guidance:SelfGuidance",
        seams=("begin", "wrap", "settle"),
        calls="1, gradient",
        memory=_GRAPH,
        source="2306.00986",
    ),
    Entry(
        name="readout guidance",
        home="guidance.readout:Readout",
        seams=("wrap",),
        calls="1, gradient",
        memory=f"{_GRAPH}, the head",
        trained="head",
        source="2312.02150",
    ),
    Entry(
        name="reconstruction guidance",
        home="guidance.reconstruction:Reconstruction",
        seams=("wrap",),
        calls="1, gradient",
        memory=_GRAPH,
        source="2410.11439",
    ),
    Entry(
        name="guidance on the condition's output",
        home="guidance.reconstruction:Reconstruction",
        seams=("wrap",),
        calls="1, gradient",
        memory=_GRAPH,
        source="2410.11439",
        page_name="output_guidance",
    ),
    Entry(
        name="replacement",
        home="correction.replacement:Replacement",
        seams=("begin", "settle"),
        calls="1",
        source="2011.13456",
    ),
    Entry(
        name="RePaint",
        home="correction.repaint:resampled",
        seams=("plan",),
        calls="10 (each step is gone so often)",
        source="2201.09865",
    ),
    Entry(
        name="ILVR",
        home="correction.ilvr:ILVR",
        seams=("settle",),
        calls="1",
        source="2108.02938",
    ),
    Entry(
        name="CCDF",
        home="correction.ccdf:CCDF",
        seams=("begin", "settle"),
        calls="1",
        source="2112.05146",
    ),
    Entry(
        name="DiffEdit",
        home="correction.diffedit:DiffEdit",
        seams=("begin", "wrap", "settle", "plan"),
        calls="2 (up and down), and 10 of 2 rows once",
        memory="the latents of the way up, a mask",
        source="2210.11427",
    ),
)
"""All of them, group by group."""
