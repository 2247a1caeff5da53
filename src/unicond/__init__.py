"""UNIfied CONditional Diffusion: what you give conditions, what you leave out is generated."""

from unicond.model import Cancelled, Model, given, load
from unicond.output import Output
from unicond.request import Given
from unicond.sampling.solvers import SOLVERS

__all__ = ["SOLVERS", "Cancelled", "Given", "Model", "Output", "given", "load"]
