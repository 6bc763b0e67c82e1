"""gateway/config/check_unread.py: what a model or rule with another mistake names is looked for all the same."""

from pathlib import Path

import pytest

from tests.config_text import mistakes

START = 'version: 1\nauth: none\nchannels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}\nschedules: {office: {when: [Mon]}}\nmodels:\n'
BAD = [
    # a mistake beside which the name at ▸ is wrong
    "  m: {policy: foo, targets: [{channel: ▸gup}]}\n",
    "  m: {policy: foo, targets: [{targets: [{channel: gpu}, {channel: ▸gup}]}]}\n",
    "  m: {policy: foo, targets: [{channel: gpu}], fallback: [m2, ▸m3]}\n  m2: {targets: [{channel: gpu}]}\n",
    "  m: {policy: foo, targets: [{channel: gpu}], rules: [{name: a, when: {outside: [office, ▸ofice]}, to: {channel: gpu}}]}\n",
    "  m: {targets: [{channel: gpu}], rules: [{name: a, when: {api: chatt}, to: {model: ▸m3}}]}\n",
    "  m: {targets: [{channel: gpu}], rules: [{name: a, when: {api: chatt}, to: [{channel: gpu},\n    {channel: ▸gup}]}]}\n",
    "  m: {targets: [{channel: gpu}], rules: "
    "[{name: a, when: {api: chatt, load: {channel: ▸gup, waiting: {over: 1}}}, to: {channel: gpu}}]}\n",
    "  m: {targets: [{channel: gpu}], rules: [{name: a, when: {during: office}, to: {channel: gpu}},"
    " {name: b, when: {api: chatt, during: ▸ofice}, to: {channel: gpu}}]}\n",
]


@pytest.mark.parametrize("text", BAD)
def test_a_name_that_leads_nowhere_is_said_at_once_with_what_is_wrong_beside_it(text: str, tmp_path: Path) -> None:
    before, _, after = (START + text).partition("▸")
    found = mistakes(tmp_path, before + after)
    assert len(found) == 2, [one.message for one in found]
    (said,) = [one for one in found if one.message.startswith("there is no ")]
    assert (said.line, said.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_nothing_is_said_of_names_that_are_there_or_may_be_in_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    text = (
        START + "  m: {policy: foo, targets: [{channel: gpu}], fallback: [m2, 5, [x]], rules: [{name: a, when: {during: office}, to: 5}]}\n"
    )
    said = [one.message for one in mistakes(tmp_path, text + "  m2: {targets: [{channel: gpu}]}\n")]
    assert said and not any(one.startswith("there is no ") for one in said)
    said = [one.message for one in mistakes(tmp_path, text + "include: [absent.yaml]\n")]
    assert said and not any(one.startswith("there is no ") for one in said)
