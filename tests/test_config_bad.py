"""Bad configurations, each refused where it is wrong: `▸` in the text marks the place, which is not part of the file."""

from pathlib import Path

import pytest

from gateway.config.report import render
from gateway.config.wording import nearest
from tests.config_text import marked, mistakes

HASH, OTHER = "sha256:" + "0f" * 32, "sha256:" + "1e" * 32
CHANNEL = 'channels: {gpu: {engine: vllm, endpoints: ["http://10.0.0.6:8000"]}}\n'
MODEL = CHANNEL + "models: {qwen: {targets: [{channel: gpu}]}}\n"
TENANT = MODEL + "tenants: {retail: {projects: {chat: {}}}}\n"


def key(id: str = "k1", hash: str = HASH, tenant: str = "retail", project: str = "chat", models: str = '"qwen"') -> str:
    return f'  - {{id: {id}, hash: "{hash}", tenant: {tenant}, project: {project}, models: [{models}]}}\n'


BAD: dict[str, tuple[str, str, str]] = {
    # name: (text, what is said, hint)
    # -- words and types
    "unknown word": ("version: 1\n▸chanels: {}\n", 'unknown word "chanels"', 'did you mean "channels"?'),
    "unknown word, nested": (
        'version: 1\nchannels:\n  gpu:\n    engine: vllm\n    ▸modle: qwen\n    endpoints: ["http://h:1"]\n',
        'unknown word "modle"',
        'did you mean "model"?',
    ),
    "unknown word, deep": ("version: 1\n" + CHANNEL[:-3] + ", timeouts: {▸conect: 3s}}}\n", 'unknown word "conect"', '"connect"'),
    "nothing like it": ("version: 1\nhttp: {▸zzz: 1}\n", 'unknown word "zzz"', "known are: body, body_memory"),
    "word of another group": ("version: 1\nmodels: {m: {▸endpoints: [], targets: []}}\n", 'unknown word "endpoints"', "known are: aliases"),
    "version missing": ("▸node: a\n", "`version` is missing", "add `version: 1`"),
    "version 2": ("version: ▸2\n", "this has to be 1", "write 1"),
    "required": ("version: 1\nchannels:\n  ▸gpu:\n    engine: vllm\n", "`endpoints` is missing", ""),
    "wrong choice": ("version: 1\nauth: ▸key\n", "this is none of keys, none", 'did you mean "keys"?'),
    "number for text": ("version: 1\nnode: ▸12\n", "this is not text", "quote it"),
    "text for number": (
        CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu, weight: ▸three}]}}\n",
        "this is not a whole number",
        "",
    ),
    "yes is text": (
        "version: 1\n" + CHANNEL[:-3].replace("http:", "https:") + ", tls: {verify: ▸no}}}\n",
        "neither true nor false",
        "yes, no",
    ),
    "weight below": (CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu, weight: ▸-1}]}}\n", "too small", "at least 0"),
    "weight above": (CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu, weight: ▸10001}]}}\n", "too large", "at most 10000"),
    "list for group": (
        "version: 1\n▸http: [1]\n".replace("▸http: ", "http: ▸"),
        "not a group of `word: value`",
        "write it like {body: 20MiB}",
    ),
    "word of the top": (
        'listeners: {api: {bind: "127.0.0.1:1", serves: api, ▸auth: none}}\nversion: 1\n',
        "unknown word",
        "at the top of the file",
    ),
    "word of one other group": ("version: 1\n▸body_timeout: 3s\n", "unknown word", "it belongs in `http`"),
    "text for a group in a list": (
        "version: 1\nmodels: {m: {targets: [▸gpu]}}\n",
        "not a group of `word: value`",
        "write it like {channel: gpu, weight: 3}",
    ),
    "text for a list of groups": ("version: 1\nmodels: {m: {targets: ▸gpu}}\n", "this is not a list", "like [{channel: gpu, weight: 3}]"),
    "text for a group": (
        MODEL[:-3] + ", rules: [{name: r, when: {api: chat}, to: ▸gpu}]}}\nversion: 1\n",
        "not a group",
        "like {channel: gpu}",
    ),
    "list for names": ("version: 1\ntenants: ▸[retail]\n", "not a group of `name: value`", "like {retail: {projects: {chatbot: {}}}}"),
    "text for a key": (MODEL + "version: 1\nkeys: [▸k7f3]\n", "not a group", "its words are: id, hash, tenant"),
    "text for list": ("version: 1\nhttp: {trusted_proxies: ▸10.0.0.1}\n", "this is not a list", "write [ ]"),
    "text for models": ("version: 1\ntenants: {t: {models: ▸qwen}}\n", "this is not a list", 'write it like ["qwen*"]'),
    "workers": ("version: 1\nworkers: ▸65\n", "65 is not a number of workers", "1 to 64, or auto"),
    "workers true": ("version: 1\nworkers: ▸true\n", "true is not a number of workers", "1 to 64"),
    "number for keys": (MODEL + "version: 1\nkeys: ▸1234\n", "this is not a list", "write [ ]"),
    "true for keys": (MODEL + "version: 1\nkeys: ▸true\n", "this is not a list", "write [ ]"),
    "include without brackets": ("version: 1\ninclude: ▸conf.d/*.yaml\n", "this is not a list", "write [ ]"),
    # -- durations, sizes, addresses, URLs
    "duration without unit": ("version: 1\nhttp: {write_idle: ▸60}\n", "60 has no unit", "write 60s"),
    "duration that is none": ("version: 1\nhttp: {write_idle: ▸3 parsecs}\n", '"3 parsecs" is not a duration', "1m30s"),
    "duration of 0": ("version: 1\nhttp: {write_idle: ▸0s}\n", "too small", "at least 100ms"),
    "sexagesimal": ("version: 1\nhttp: {write_idle: ▸1:30}\n", '"1:30" is not a duration', ""),
    "size without unit": ("version: 1\nhttp: {body: ▸1048576}\n", "1048576 has no unit", "1048576B"),
    "size that is none": ("version: 1\nhttp: {body: ▸8 MB}\n", '"8 MB" is not a size', "8MiB"),
    "bind": ('version: 1\nlisteners: {api: {bind: ▸"8080"}}\n', '"8080" is not host:port', '":8080"'),
    "bind port": ('version: 1\nlisteners: {api: {bind: ▸"h:99999"}}\n', "needs a port from 1 to 65535", ""),
    "no api": ('version: 1\n▸listeners: {m: {bind: ":1", serves: metrics}}\n', "no listener serves api", "add one"),
    "cidr": ("version: 1\nhttp: {trusted_proxies: [▸10.0.0.1/8]}\n", "is not a network", "did you mean 10.0.0.0/8?"),
    "url with a shell's $": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://$HOST:80"]}}\n',
        "names a host that there cannot be",
        "${env:NAME}",
    ),
    "url of two hosts": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://a,b:80"]}}\n',
        "a host that there cannot be",
        "http://10",
    ),
    "url of no IPv4": ('version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://10.0.0.256"]}}\n', "a host that there cannot be", ""),
    "url of an API": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://h:1/a/v1/chat/completions/"]}}\n',
        "the URL ends with the path of an API",
        "leave out /v1 and what follows",
    ),
    "url scheme": ('version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"h:8000"]}}\n', "does not begin with http://", "http://10"),
    "url userinfo": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://u:pw@h:8000"]}}\n',
        "a user name or password",
        "credential",
    ),
    "url query": ('version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://h/?a=b"]}}\n', "a query or fragment", ""),
    "url port": ('version: 1\nchannels: {c: {engine: vllm, endpoints: [▸"http://h:0"]}}\n', "needs a port", ""),
    "no endpoint": ("version: 1\nchannels: {c: {engine: vllm, endpoints: ▸[]}}\n", "this list is empty", ""),
    "registry": (
        "version: 1\nchannels: {c: {engine: vllm, endpoints: {registry: ▸lab}}}\n",
        'there is no registry "lab"',
        "no registry is configured",
    ),
    "endpoint twice": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: ["http://H:80", ▸"http://h/v1/"]}}\n',
        "this endpoint is listed twice",
        "first as number 1",
    ),
    "plane url": ("version: 1\n" + CHANNEL[:-3] + ", planes: {metrics: ▸nowhere}}}\n", "does not begin with http://", ""),
    "header name": ("version: 1\n" + CHANNEL[:-3] + ', headers: {▸"X Y": "1"}}}\n', "cannot be a header's name", ""),
    "our header": ("version: 1\n" + CHANNEL[:-3] + ", headers: {▸Host: a}}}\n", "the header Host is the gateway's own", ""),
    "header value": ("version: 1\n" + CHANNEL[:-3] + ', headers: {X: ▸"a\\nb"}}}\n', "cannot be a header's value", "line break"),
    "two authorizations": (
        "version: 1\n" + CHANNEL[:-3] + ", credential: abcdefgh, headers: {▸Authorization: Basic x}}}\n",
        "both a credential and an Authorization header",
        "keep one",
    ),
    "credential": ("version: 1\n" + CHANNEL[:-3] + ', credential: ▸"a b\\n"}}\n', "cannot be a credential", "line break"),
    "origin": ("version: 1\nhttp: {cors: {origins: [▸chat.example.com]}}\n", "is not an origin", "https://chat"),
    "data_dir": ('version: 1\ndata_dir: ▸"/srv/what?"\n', "data_dir has a ? in its path", "choose another folder than /srv/what?"),
    "data_dir quoted": ("version: 1\ndata_dir: ▸/srv/it's\n", "data_dir has a ' in its path", ""),
    "body_memory": ("version: 1\nhttp: {body: 64MiB, body_memory: ▸1MiB}\n", "body_memory is smaller than body", ""),
    "total": ("version: 1\n" + CHANNEL[:-3] + ", timeouts: {total: ▸5s}}}\n", "total is shorter than first_event", ""),
    "tls without https": ("version: 1\n" + CHANNEL[:-3] + ", ▸tls: {verify: false}}}\n", "tls without an https URL", "https://"),
    # -- names that lead nowhere or mean two things
    "a name in Chinese": (
        'version: 1\nchannels: {▸备用: {engine: vllm, endpoints: ["http://h"]}}\n',
        '"备用" is not a name',
        "ASCII letters",
    ),
    "model name": (CHANNEL + 'version: 1\nmodels: {▸"a b": {targets: [{channel: gpu}]}}\n', '"a b" is not a model name', "letters, digits"),
    "channel name": ('version: 1\nchannels: {▸"a/b": {engine: vllm, endpoints: ["http://h"]}}\n', '"a/b" is not a name', ""),
    "dangling channel": (CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: ▸gup}]}}\n", 'there is no channel "gup"', '"gpu"?'),
    "target of a rule, in a list": (
        MODEL.replace("}]}}", "}], rules: [{name: a, when: {}, to:\n  [{channel: gpu},\n  {channel: ▸gup}]}]}}") + "version: 1\n",
        'there is no channel "gup"',
        '"gpu"?',
    ),
    "word in a rule's list of targets": (
        MODEL.replace("}]}}", "}], rules: [{name: a, when: {}, to:\n  [{channel: gpu},\n  {▸chanel: gpu}]}]}}") + "version: 1\n",
        'unknown word "chanel"',
        '"channel"?',
    ),
    "no target": (CHANNEL + "version: 1\nmodels: {m: {targets: ▸[]}}\n", "this list is empty", ""),
    "all weights 0": (CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu, weight: ▸0}]}}\n", "every weight is 0", ""),
    "target twice": (
        CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu}, ▸{channel: gpu}]}}\n",
        "this target is listed twice",
        "",
    ),
    "alias form": (
        CHANNEL + 'version: 1\nmodels: {m: {aliases: [▸"a*b"], targets: [{channel: gpu}]}}\n',
        "this is not an alias",
        "followed by *",
    ),
    "alias is model": (
        CHANNEL + "version: 1\nmodels:\n  a: {targets: [{channel: gpu}]}\n  b: {aliases: [▸a], targets: [{channel: gpu}]}\n",
        'the alias "a" is the name of a model',
        "gateway.yaml:4",
    ),
    "alias twice": (
        CHANNEL
        + 'version: 1\nmodels:\n  a: {aliases: ["x*"], targets: [{channel: gpu}]}\n  b: {aliases: [▸"x*"], targets: [{channel: gpu}]}\n',
        'the alias "x*" is given twice',
        "first to a at",
    ),
    "retry reason": (
        CHANNEL + "version: 1\nmodels: {m: {targets: [{channel: gpu}], retry: {on: [▸500]}}}\n",
        "this is none of connect, timeout",
        "",
    ),
    "key tenant": (TENANT + "version: 1\nkeys:\n" + key(tenant="▸retial"), 'there is no tenant "retial"', '"retail"?'),
    "key project": (TENANT + "version: 1\nkeys:\n" + key(project="▸chatt"), 'has no project "chatt"', '"chat"?'),
    "key models": (TENANT + "version: 1\nkeys:\n" + key(models='▸"qwem"'), '"qwem" matches nothing', '"qwen"?'),
    "key hash": (TENANT + "version: 1\nkeys:\n" + key(hash="md5:1").replace('hash: "', 'hash: ▸"'), "this is not a key's hash", "64"),
    "key id twice": (TENANT + "version: 1\nkeys:\n" + key() + key(id="▸k1", hash=OTHER), 'the key id "k1" is used twice', "gateway.yaml:6"),
    "key hash twice": (
        TENANT + "version: 1\nkeys:\n" + key() + key(id="k2").replace('hash: "', 'hash: ▸"'),
        'the keys "k1" and "k2" have the same hash',
        '"k1" is at',
    ),
    "key hash that was another's before its rotation": (
        TENANT
        + "version: 1\nkeys:\n"
        + key(id="k0").replace("}", f', previous: {{hash: "{OTHER}", until: 2027-01-01}}}}')
        + key(id="k1", hash="sha256:" + "2d" * 32)
        + key(id="k2", hash=OTHER).replace('hash: "', 'hash: ▸"'),
        'the keys "k0" and "k2" have the same hash',
        "gateway.yaml:6",
    ),
    # -- addresses that clash
    "same address": (
        'version: 1\nlisteners:\n  a: {bind: "127.0.0.1:80"}\n  b: {bind: ▸"localhost:80"}\n',
        "this address is taken",
        "listener a has it",
    ),
    "covered": (
        'version: 1\nlisteners:\n  a: {bind: "127.0.0.1:80"}\n  b: {bind: ▸":80"}\n',
        "this address is taken",
        "it covers 127.0.0.1:80",
    ),
    "both wildcards": (
        'version: 1\nlisteners:\n  a: {bind: "0.0.0.0:80"}\n  b: {bind: ▸"[::]:80"}\n',
        "this address is taken",
        "[::] answers IPv4 too, so one of them does for both",
    ),
    "covered by v6": ('version: 1\nlisteners:\n  a: {bind: "[::]:80"}\n  b: {bind: ▸":80"}\n', "this address is taken", "listener a"),
    "metrics on api": (
        'version: 1\nlisteners:\n  a: {bind: ":80"}\n  m: {bind: ▸"10.0.0.1:80", serves: metrics}\n',
        "metrics and api cannot share an address",
        "",
    ),
    # -- the PROXY protocol
    "proxied metrics": (
        'version: 1\nhttp: {trusted_proxies: [10.0.0.1/32]}\nlisteners:\n  a: {bind: ":80"}\n'
        '  m: {bind: ":81", serves: metrics, proxy_protocol: ▸true}\n',
        "proxy_protocol is only for listeners that serve api",
        "remove it",
    ),
    "proxied by nobody": (
        'version: 1\nlisteners: {a: {bind: ":80", proxy_protocol: ▸true}}\n',
        "proxy_protocol without http.trusted_proxies",
        "nobody would be believed",
    ),
    "proxied by what is no network": (
        'version: 1\nlisteners: {a: {bind: ":80", proxy_protocol: true}}\nhttp: {trusted_proxies: [▸10.0.0.1/8]}\n',
        "is not a network",
        "10.0.0.0/8?",
    ),
    "proxied, perhaps": ('version: 1\nlisteners: {a: {bind: ":80", proxy_protocol: ▸v2}}\n', "neither true nor false", ""),
    # -- references
    "env": ('version: 1\nnode: ▸"${env:NOT_SET}"\n'.replace('▸"', '"▸'), "the environment variable NOT_SET is not set", "NOT_SET:-default"),
    "env, later in the text": ("version: 1\nnode: abc-▸${env:NOT_SET}\n", "NOT_SET is not set", ""),
    "file": ("version: 1\nnode: ▸${file:/no/such}\n", "/no/such: there is no such file", ""),
    "file of a unit": (
        "version: 1\nnode: ▸${file:/run/credentials/none.service/key}\n",
        "/run/credentials/none.service/key: there is no such file",
        "systemd makes it as the unit starts (LoadCredential=); only then is it there",
    ),
    "NUL in a path": ('version: 1\ninclude: [▸"a\\0b.yaml"]\n', "this holds the character U+0000", "remove it"),
    "NUL in a reference": ('version: 1\nnode: ▸"${file:a\\0b}"\n', "this holds the character U+0000", "remove it"),
    "NUL in data_dir": ('version: 1\ndata_dir: ▸"/var\\0/lib"\n', "this holds the character U+0000", "remove it"),
    "not a reference": ("version: 1\nnode: ▸${NOT_SET}\n", "${NOT_SET} is not a reference", "${env:NAME}"),
    "reference, open": ("version: 1\nnode: a▸${env:X\n", "`${` is never closed", "$${"),
    # -- YAML
    "duplicate": ("version: 1\nnode: a\n▸node: b\n", '"node" is written twice', "first at line 2"),
    "duplicate, nested": ("version: 1\nhttp:\n  body: 1MiB\n  ▸body: 2MiB\n", '"body" is written twice', "first at line 3"),
    "duplicate, flow": ("version: 1\nhttp: {body: 1MiB, ▸body: 2MiB}\n", '"body" is written twice', ""),
    "duplicate model": (
        CHANNEL + "version: 1\nmodels:\n  m: {targets: [{channel: gpu}]}\n  ▸m: {targets: [{channel: gpu, model: b}]}\n",
        '"m" is written twice',
        "first at line 4",
    ),
    "duplicate channel, flow": (
        'version: 1\nchannels: {c: {engine: vllm, endpoints: ["http://h:1"]}, ▸c: {engine: vllm, endpoints: ["http://h:2"]}}\n',
        '"c" is written twice',
        "first at line 2",
    ),
    "duplicate tenant, quoted": ("version: 1\ntenants:\n  1: {projects: {}}\n  ▸'1': {projects: {}}\n", '"1" is written twice', "line 3"),
    "merge key among models": ("version: 1\nmodels:\n  ▸<<: {}\n", "merge keys (<<) are not used here", "write out what it would bring"),
    "tag of a name": (CHANNEL + "version: 1\nmodels:\n  ▸!!str m: {targets: [{channel: gpu}]}\n", "this cannot be a name", ""),
    "duplicate listener": ('version: 1\nlisteners:\n  api: {bind: ":1"}\n  ▸api: {bind: ":2"}\n', '"api" is written twice', "line 3"),
    "anchor": ("version: 1\nnode: ▸&a b\n", "& makes this an anchor", "quote text that begins with &"),
    "anchor or text": ("version: 1\nnode: ▸&a\n", "& makes this an anchor", "quote text that begins with &"),
    "anchor of a group": ("version: 1\nhttp: ▸&h\n  body: 1MiB\n", "& makes this an anchor", "leave it out"),
    "anchor that is used": ("version: 1\nhttp: ▸&h {}\nmodels: *h\n", "& makes this an anchor", "write out what its aliases stand for"),
    "anchor in a file that breaks off": ("version: 1\nhttp: ▸&h {}\nmodels: [\n", "& makes this an anchor", "leave it out"),
    "alias to merge": ("version: 1\nhttp:\n  <<: ▸*h\n", "* makes this an alias", "write out what it stands for"),
    "aliases to merge": ("version: 1\nhttp:\n  <<: [▸*h, *i]\n", "* makes this an alias", "write out what it stands for"),
    "a password": ("version: 1\nnode: ▸&a!b\n", "text that begins with &", "quote text that begins with &"),
    "lone ampersand": ("version: 1\nnode: ▸& b\n", "a lone &", 'quote it: "&"'),
    "alias": ("version: 1\nhttp: {cors: {origins: [▸*all]}}\n", "* makes this an alias", "quote"),
    "lone star": ("version: 1\nhttp: {cors: {origins: [▸*]}}\n", "a lone *", 'quote it: "*"'),
    "merge key": ("version: 1\nhttp:\n  ▸<<: {body: 1MiB}\n", "merge keys", ""),
    "tag": ("version: 1\nnode: ▸!!str 12\n", "! makes this a tag", "quote"),
    "python tag": ("version: 1\nnode: ▸!!python/object:os.system x\n", "! makes this a tag", ""),
    "two documents": ("version: 1\n▸---\nversion: 1\n", "a second document", "remove"),
    "tab": ("version: 1\nhttp:\n▸\tbody: 1MiB\n", "a tab", "spaces"),
    "nul": ("version: 1\nnode: a▸\0b\n", "U+0000", "remove it"),
    "escape": ("version: 1\nnode: a▸\x1b[2Jb\n", "U+001B", "remove it"),
    "no-break space is text": ("version: 1\nnode: ▸a\u00a0b\n", "this is not a name", ""),
    "line separator": ("version: 1\n# a▸\u2028b\n", "U+2028", "remove it"),
    "bom": ("▸\ufeffversion: 1\n", "byte order mark", "without BOM"),
    "unclosed list": ("version: 1\ninclude: ▸[a.yaml\n", "the file ends inside this [", "half-written"),
    "unclosed list, more": ("version: 1\ninclude: [a.yaml\nnode▸: b\n", "is not closed before this", "line 2"),
    "unclosed quote": ('version: 1\nnode: ▸"abc\n', "this quote is never closed", "half-written"),
    "colon": ("version: 1\nnode: a▸: b\n", 'a ": " that does not belong here', "quote"),
    "full-width colon": ("version: 1\nnode▸\uff1a gw-a\n", "a full-width \uff1a", "write :"),
    "full-width comma": ("version: 1\nlisteners: {a: {bind: ':1'▸\uff0c serves: api}}\n", "a full-width \uff0c", "write ,"),
    "full-width colon above": ("version: 1\nlisteners:\n  a:\n    bind▸\uff1a ':1'\n    serves: api\n", "a full-width \uff1a", "write :"),
    "hard space": ("version: 1\nnode:▸\xa0gw-a  # \uff1a\n", "a space that is none", "plain space"),
    "quoted full-width sign": ("version: 1\nlisteners: {a: {bind: '\uff1a' ▸serves: api}}\n", "a comma is missing", "it began at line 2"),
    "no colon": ("version: 1\n▸node\n", "a key without its colon", "key: value"),
    "indentation": ("version: 1\nhttp:\n    body: 1MiB\n  ▸header: 1KiB\n", "does not fit the lines above", "indentation"),
    "unquoted reference": ("version: 1\nlisteners: {api: {bind: $▸{env:X}}}\n", "", ""),
    "at sign": ("version: 1\nnode: ▸@a\n", "text cannot begin with @", "quote"),
    "a list": ("▸- version: 1\n", "does not begin with a word and a colon", ""),
    "empty name": ('version: 1\nhttp: {▸"": 1}\n', "this cannot be a name", ""),
    "name is a list": ("version: 1\nhttp: {▸[a]: 1}\n", "this cannot be a name", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_each_mistake_is_found_where_it_is(name: str, tmp_path: Path) -> None:
    found = marked(tmp_path, *BAD[name])
    assert len(found) == 1 or name in ("word of another group", "nothing like it"), render(found)
    assert found[0].file == str(tmp_path / "gateway.yaml")


def test_all_mistakes_are_told_at_once_and_those_that_follow_from_others_are_not(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        "version: 1\n"
        "wrokers: 2\n"
        "http: {body: 10}\n"
        'channels:\n  gpu: {engine: vlm, endpoints: ["http://h:1"]}\n  cpu: {engine: vllm, endpoints: ["http://h:2", "http://h:2"]}\n'
        "models:\n  a: {targets: [{channel: gpu}, {channel: cpu}, {channel: npu}]}\n"
        "  b: {aliases: [a], targets: [{channel: cpu, weight: x}]}\n"
        "tenants: {t: {projects: {p: {}}}}\n"
        "keys:\n" + key(tenant="t", project="p", models='"a"') + key(id="k2", hash="x", tenant="t", project="p") + key(id="k3", tenant="u"),
    )
    assert [(m.line, m.message.split(",")[0]) for m in found] == [
        (2, 'unknown word "wrokers"'),
        (3, "10 has no unit"),
        (5, "this is none of vllm"),
        (6, "this endpoint is listed twice"),
        (8, 'there is no channel "npu"'),
        (9, "this is not a whole number"),
        (13, "this is not a key's hash"),
        (14, 'the keys "k1" and "k3" have the same hash'),
        (14, 'there is no tenant "u"'),
        (14, '"qwen" matches nothing'),
    ], render(found)


def test_a_wrong_price_or_rule_of_alerts_hides_nothing_of_the_others(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        "version: 1\n"
        'channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}\n'
        "models: {m: {targets: [{channel: gpu}]}}\n"
        'tenants: {t: {budget: {amount: "5", per: month, stop: 100}}}\n'
        "currencies: {base: USD}\n"
        "prices:\n"
        '  - {model: m, input: lots, output: "1"}\n'  # the only price of m that a budget can use: that there is none is not said
        '  - {model: nope, input: "1", output: "1"}\n'
        '  - {model: m, input: "1", output: "1", currency: EUR, from: 2026-01-01}\n'
        '  - {model: m, input: "1", output: "1", from: 2026-01-01}\n'
        "alerts:\n"
        "  rules:\n"
        "    - {on: endpoint_dwn}\n"
        "    - {on: endpoint_down, to: [nobody], name: a}\n"
        "    - {on: endpoint_down, name: a}\n"
        "keys: []\n",
    )
    assert [(m.line, m.message.split(",")[0]) for m in found] == [
        (7, '"lots" is not an amount of money'),
        (8, '"nope" matches nothing'),
        (9, "there is no rate for the currency EUR"),
        (10, "this price of m starts twice"),
        (13, "this is none of endpoint_down"),
        (14, 'there is no sink "nobody"'),
        (15, 'two rules have the name "a"'),
    ], render(found)
    assert [m.hint and m.hint.partition(" at ")[2] for m in found][3::3] == [
        f"{tmp_path}/gateway.yaml:9; leave one out",
        f"{tmp_path}/gateway.yaml:14",
    ]


@pytest.mark.parametrize(
    "misplaced",
    [
        "sk-canary-1234567890: 1",
        "channels: {gpu: {credential:s3canary, engine: vllm}}",
        "channels: {gpu: {engine: vllm, credential: &canary x}}",
        "channels: {gpu: {engine: vllm, credential: *canary }}",
        "channels: {gpu: {engine: vllm, credential: !canary x}}",
        "listeners: {api: {bind: sk-canary-1234567890}}",
        'channels: {gpu: {engine: vllm, endpoints: ["http://h:8000s3canary"]}}',
        'channels: {gpu: {engine: vllm, endpoints: ["http://h:s3canary/v1"]}}',
        "models: {qwen: {targets: [{channel: sk-canary-0987654321}]}}",
        'listeners: {api: {bind: ":1", tls: {cert: a, key: "-----BEGIN PRIVATE KEY-----\\ncanary"}}}',
        'listeners:\n  api:\n    bind: ":1"\n    tls:\n      cert: a\n      key: |\n        -----BEGIN PRIVATE KEY-----\n        canary',
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(misplaced: str, tmp_path: Path) -> None:
    found = mistakes(tmp_path, f"version: 1\n{misplaced}\n")
    assert found and "canary" not in render(found) + repr(found), render(found)


def test_names_are_told_although_they_begin_like_a_token(tmp_path: Path) -> None:
    channels = CHANNEL.replace("gpu:", "hf-llama-70b:")
    (found,) = mistakes(tmp_path, f"version: 1\n{channels}models: {{gw-chat-large: {{targets: [{{channel: hf-llama-8b}}]}}}}\n")
    assert found.message == 'there is no channel "hf-llama-8b"' and found.hint == 'did you mean "hf-llama-70b"?'
    assert found.source is not None and "gw-chat-large" in found.source


def test_a_bomb_of_aliases_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    found = mistakes(tmp_path, "\n".join(rows) + "\n")
    assert len(found) == 1 and "& makes this an anchor" in found[0].message


def test_depth_and_number_of_values_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = mistakes(tmp_path, "version: 1\nnode: " + "[" * 5000 + "]" * 5000 + "\n")[0]
    assert "nested more than 32 deep" in deep.message and (deep.line, deep.column) == (2, 37)
    monkeypatch.setattr("gateway.config.compose.MOST_NODES", 100)
    assert "more than 100 values" in mistakes(tmp_path, "version: 1\ninclude: [" + "a, " * 100 + "b]\n")[0].message


@pytest.mark.parametrize(
    ("typed", "meant"), [("chanel-0041", "channel-0041"), ("channl-1741", "channel-1741"), ("channel-0041x", "channel-0041")]
)
def test_among_thousands_of_names_the_nearest_is_named(typed: str, meant: str) -> None:
    """Also when the slip stands where all names are still alike."""
    assert nearest(typed, [f"channel-{number:04d}" for number in range(2000)]) == f'did you mean "{meant}"?'
