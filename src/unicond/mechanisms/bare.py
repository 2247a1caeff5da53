"""What tasks are asked for by the name of a method, without any of the catalogue's."""

from collections.abc import Mapping
from types import MappingProxyType

BARE: Mapping[str, str] = MappingProxyType(
    {
        "generate --method adapter": "every map as the condition of an adapter",
        "layout --method segmentation": "the boxes as a map, the condition of an adapter",
        "layout --method gligen": "an adapter trained on phrases in boxes",
        "layout --method interact": "one trained on who does what to whom, too",
        "layout --method migc": "one trained on instances with their attributes",
        "layout --method text": "the prompt alone",
    }
)
"""{what a task is asked for without any of them: what it is}."""
