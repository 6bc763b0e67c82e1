"""What `gatewayctl init` left to be written is found wherever it stands, and nothing else is."""

import pytest

from gateway.config.unfinished import unfinished
from tests.config_text import loaded

HEAD = "version: 1\nauth: none\nchannels: {a: {engine: vllm, endpoints: ['http://h:1']}, b: {engine: vllm, endpoints: ['http://h:2']}}\n"


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        ("{targets: [{channel: a}]}", []),
        ("{targets: [{channel: a, model: name-at-the-engine}, {channel: b, model: qwen}]}", ["a"]),
        ("{targets: [{channel: a, model: name-at-the-engine}, {channel: b, model: name-at-the-engine}]}", ["a", "b"]),
        ("{policy: primary-backup, targets: [{targets: [{channel: b, model: name-at-the-engine}]}, {channel: a}]}", ["b"]),
        ("{targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: {channel: b, model: name-at-the-engine}}]}", ["b"]),
        ("{targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: {model: other}}]}", []),
        ("{targets: [{channel: a}], rules: [{name: r, when: {api: chat}, to: [{channel: b, model: name-at-the-engine}]}]}", ["b"]),
    ],
)
def test_where_the_placeholder_stands(model, channels, tmp_path):
    text = HEAD + f"models: {{name-at-the-engine: {model}, other: {{targets: [{{channel: a}}]}}}}\n"
    found = unfinished(loaded(tmp_path, text).config)
    assert [line.rpartition("channels probe ")[2].partition("`")[0] for line in found] == channels
    assert all(line.startswith("models.name-at-the-engine: `name-at-the-engine` only stands") for line in found)
