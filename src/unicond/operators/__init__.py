"""Measurements of pictures: what is known of a picture that is looked for."""

from unicond.operators.base import LinearOperator, Operator
from unicond.operators.masking import Mask
from unicond.operators.registry import OPERATORS, make_operator

__all__ = ["OPERATORS", "LinearOperator", "Mask", "Operator", "make_operator"]
