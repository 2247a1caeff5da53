"""Annotators: pictures to their conditions and captions, one at a time or a folder at once."""

from unicond.annotators.base import Annotator
from unicond.annotators.calling import annotate
from unicond.annotators.registry import MADE, load_annotator

__all__ = ["MADE", "Annotator", "annotate", "load_annotator"]
