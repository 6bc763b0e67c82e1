"""The conditions of rules: one file per family, and `compile.py` with one visible line for each."""

from gateway.route.conditions.compile import compile_when, matcher, matches
from gateway.route.conditions.condition import Condition
from gateway.route.conditions.load import Figures

__all__ = ["Condition", "Figures", "compile_when", "matcher", "matches"]
