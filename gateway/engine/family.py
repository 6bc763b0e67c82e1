"""Every engine family that a channel may name. A new one is a file and a line here."""

from typing import Final

from gateway.engine.base import Dialect
from gateway.engine.mindie import MindIE
from gateway.engine.openai import OpenAI
from gateway.engine.sglang import SGLang
from gateway.engine.vllm import VLLM

DIALECTS: Final[dict[str, Dialect]] = {
    "openai": OpenAI(),
    "vllm": VLLM(),
    "sglang": SGLang(),
    "mindie": MindIE(),
}
"""By name, in the order of `words.ENGINES`."""
