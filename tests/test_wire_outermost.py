"""The outermost shape of what each API takes, as `routes explain` judges it."""

import pytest

from gateway.wire.openai import parse_object
from gateway.wire.outermost import misshapen
from gateway.words import APIS


@pytest.mark.parametrize(
    ("api", "body", "said"),
    [
        ("chat", b'{"messages": [{"role": "user", "content": "hi"}]}', []),
        ("chat", b'{"messages": "hi"}', ["`messages` is text, not a list"]),
        ("chat", b'{"messages": {"role": "user"}}', ["`messages` is an object, not a list"]),
        ("chat", b'{"messages": 5}', ["`messages` is a number, not a list"]),
        ("chat", b'{"messages": null}', ["`messages` is null, not a list"]),
        ("chat", b'{"messages": [ ]}', ["`messages` is empty"]),
        ("chat", b'{"prompt": "hi"}', ["there is no `messages`"]),
        ("completions", b'{"prompt": ["a", "b"]}', []),
        ("completions", b'{"prompt": false}', ["`prompt` is false, not text or a list"]),
        ("completions", b'{"prompt_embeds": "AAAA"}', []),
        ("embeddings", b'{"input": [1, 2]}', []),
        ("embeddings", b'{"messages": []}', []),
        ("rerank", b'{"query": "q", "documents": "d"}', ["`documents` is text, not a list"]),
        ("rerank", b"{}", ["there is no `query`", "there is no `documents`"]),
        ("score", b'{"text_1": "a", "text_2": true}', ["`text_2` is true, not text or a list"]),
        ("tokenize", b'{"prompt": []}', ["`prompt` is a list, not text"]),
        ("tokenize", b'{"messages": []}', []),
    ],
)
def test_what_is_wrong_with_a_body(api, body, said):
    assert misshapen(api, parse_object(body)) == said


def test_every_api_has_its_shape():
    for api in APIS.values():
        assert misshapen(api, {}), api
