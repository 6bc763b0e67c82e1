"""The conditions of rules: one file per family, and `compile.py` with one visible line for each."""

from gateway.route.conditions.compile import compile_when, matcher, matches
from gateway.route.conditions.condition import Condition
from gateway.route.conditions.load import Figures
from gateway.route.conditions.together import Together

__all__ = ["Condition", "Figures", "Together", "compile_when", "matcher", "matches"]
