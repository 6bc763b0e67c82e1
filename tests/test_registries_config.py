"""`registries:` and `endpoints: {registry: …}`: what may be written, what is said of the rest, and the compact form."""

import msgspec
import pytest

from gateway.config.registries import server_of
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.config.resolved_registries import Registry
from gateway.config.tree import words
from tests.config_text import loaded, only

GOOD = """\
version: 1
registries:
  lab:  {type: dns, srv: _mindie._tcp.lab, ttl_min: 10s}
  gpus: {type: dns, host: gpu.lab, port: 8000, scheme: https, base: /a/v1, family: ipv6, servers: [10.0.0.2, "[fd00::2]:5353"], ttl_max: 1m}
  list: {type: file, path: lists/engines.json}
  fix:  {type: static, endpoints: ["http://10.0.0.6:8000"]}
channels:
  gpu: {engine: vllm, endpoints: {registry: lab}, tls: {verify: false}}
  old: {engine: vllm, endpoints: ["http://10.0.0.7:8000"]}
"""


def test_each_type_in_its_compact_form(tmp_path):
    config, _ = resolve(loaded(tmp_path, GOOD))
    assert config.registries == {
        "lab": Registry(name="lab", type="dns", srv="_mindie._tcp.lab", ttl_min=10.0),
        "gpus": Registry(
            name="gpus",
            type="dns",
            host="gpu.lab",
            port=8000,
            scheme="https",
            base="/a",
            family="ipv6",
            servers=("10.0.0.2:53", "[fd00::2]:5353"),
            ttl_max=60.0,
        ),
        "list": Registry(name="list", type="file", path=str(tmp_path / "lists/engines.json")),
        "fix": Registry(name="fix", type="static", urls=("http://10.0.0.6:8000",)),
    }
    assert (config.channels["gpu"].registry, config.channels["gpu"].endpoints) == ("lab", ())
    assert (config.channels["old"].registry, config.channels["old"].endpoints[0].port) == ("", 8000)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=Resolved) == config
    assert {"registries.<name>.srv", "channels.<name>.endpoints"} <= words().keys()


def test_how_often_one_looks_is_not_where_one_looks():
    one = Registry(name="a", type="dns", host="h", port=1, servers=("10.0.0.2:53",), ttl_min=1.0)
    assert one.place() == Registry(name="a", type="dns", host="h", port=1, ttl_max=9.0).place()
    assert one.place() != Registry(name="a", type="dns", host="h", port=2).place()


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.0.0.2", "10.0.0.2:53"),
        ("10.0.0.2:5353", "10.0.0.2:5353"),
        ("fd00::2", "[fd00::2]:53"),
        ("[fd00::2]", "[fd00::2]:53"),
        ("[fd00::2]:5353", "[fd00::2]:5353"),
    ],
)
def test_servers(text, server):
    assert server_of(text) == server


SRV = "type: dns, srv: _m._tcp.lab"
HOST = "type: dns, host: gpu.lab"
BAD: dict[str, tuple[str, str, str]] = {
    # name: (the registry, what is said, hint); ▸ marks the place
    "type": ("type: ▸consul", "none of static, dns, file", ""),
    "unknown word": ("type: dns, ▸srvs: _m._tcp.lab, host: h, port: 1", 'unknown word "srvs"', 'did you mean "srv"?'),
    "nothing to ask for": ("type: dns", "neither `srv` nor `host` is written", "_http._tcp.lab"),
    "both": (f"{SRV}, ▸host: h", "both `srv` and `host` are written", "keep one"),
    "port of srv": (f"{SRV}, ▸port: 1", "`port` beside `srv`", "SRV records hold the ports"),
    "no port": (HOST, "`port` is missing", "A and AAAA records hold none"),
    "port": (f"{HOST}, port: ▸70000", "too large", "at most 65535"),
    "an address": ("type: dns, host: ▸10.0.0.1, port: 1", '"10.0.0.1" is an address', "static"),
    "no name": ('type: dns, host: ▸"a b", port: 1', '"a b" is not a name that DNS can hold', "gpu.lab"),
    "long label": (f"type: dns, host: ▸{'a' * 64}.lab, port: 1", "is not a name that DNS can hold", ""),
    "long name": (f"type: dns, host: ▸{'a.' * 130}lab, port: 1", "is not a name that DNS can hold", ""),
    "server": (f'{SRV}, servers: [▸"ns.lab:53"]', '"ns.lab:53" is not the address of a DNS server', "10.0.0.2:53"),
    "server's port alone": (f'{SRV}, servers: [▸":53"]', "is not the address of a DNS server", ""),
    "no server": (f"{SRV}, servers: ▸[]", "this list is empty", ""),
    "base": (f"{SRV}, base: ▸a/b", '"a/b" is not the beginning of a path', "/engines/a"),
    "often": (f"{SRV}, ttl_min: ▸500ms", "too small", "at least 1s"),
    "contradiction": (f"{SRV}, ttl_min: 1m, ttl_max: ▸30s", "ttl_max is shorter than ttl_min", ""),
    "contradiction with the default": (f"{SRV}, ttl_min: ▸1h", "ttl_max is shorter than ttl_min", ""),
    "word of another type": ("type: file, path: x, ▸srv: a.lab", "`srv` is for type dns, this registry is of type file", ""),
    "path of dns": (f"{SRV}, ▸path: x", "`path` is for type file", ""),
    "no path": ("type: file", "`path` is missing", "engines.json"),
    "no endpoints": ("type: static", "`endpoints` is missing", "http://10"),
    "endpoint": ('type: static, endpoints: ["http://h", ▸"ftp://h"]', "does not begin with http://", ""),
    "twice": ('type: static, endpoints: ["http://h", ▸"http://H:80/v1"]', "this endpoint is listed twice", "first as number 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_registries_are_refused_where_they_are_wrong(name, tmp_path):
    text, said, hint = BAD[name]
    marked = f"version: 1\nregistries:\n  lab: {{{text}}}\n" if "▸" in text else f"version: 1\nregistries:\n  ▸lab: {{{text}}}\n"
    only(tmp_path, marked, said, hint)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("{registry: ▸lap}", 'there is no registry "lap"', 'did you mean "lab"?'),
        ("{registry: ▸other}", 'there is no registry "other"', "known are: lab, bad"),
        ("{▸registri: lab, registry: lab}", 'unknown word "registri"', ""),
        ("▸http://h", "endpoints are a list", "{registry: NAME}"),
        ('["http://h", ▸"ftp://h"]', "does not begin with http://", ""),
        ("{registry: ▸[lab]}", "this is not text", ""),
    ],
)
def test_endpoints_that_no_registry_knows(text, said, hint, tmp_path):
    registries = "registries: {lab: {type: static, endpoints: [http://h]}, bad: {type: static, endpoints: [http://i]}}\n"
    only(tmp_path, f"version: 1\n{registries}channels:\n  gpu: {{engine: vllm, endpoints: {text}}}\n", said, hint)


def test_a_registry_that_is_wrong_is_known_all_the_same(tmp_path):
    text = "version: 1\nregistries: {lab: {type: dns, srv: ▸..}}\nchannels: {gpu: {engine: vllm, endpoints: {registry: lab}}}\n"
    only(tmp_path, text, "is not a name that DNS can hold")
