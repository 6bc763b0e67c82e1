"""Configurations as text, for tests: what is right is loaded, and what is wrong is told where `▸` marks the place."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config.load import ConfigError, Loaded, Mistake, load
from gateway.config.report import render


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """What is right. Otherwise the test fails with what is wrong."""
    try:
        return load(_written(folder, text), environ or {})
    except ConfigError as error:
        raise AssertionError(render(error.mistakes)) from None


def mistakes(folder: Path, text: str) -> list[Mistake]:
    """All that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load(_written(folder, text), {})
    return caught.value.mistakes


def marked(folder: Path, text: str, said: str = "", hint: str = "") -> list[Mistake]:
    """All that is wrong: the first of it is at the mark, says this, and gives this hint."""
    before, _, after = text.partition("▸")
    found = mistakes(folder, before + after)
    first = found[0]
    assert (first.line, first.column) == (before.count("\n") + 1, len(before) - before.rfind("\n")), render(found)
    assert said in first.message and hint in (first.hint or ""), render(found)
    return found


def only(folder: Path, text: str, said: str = "", hint: str = "") -> None:
    """Nothing else is wrong than what is marked."""
    found = marked(folder, text, said, hint)
    assert len(found) == 1, render(found)


def _written(folder: Path, text: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_bytes(text.encode())
    return path
