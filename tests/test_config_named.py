"""Every file that a configuration names: which hold secrets, also when it has mistakes."""

from gateway.config.named import named
from tests.test_discover_tls import Authority

TEXT = """\
version: 1
include: [keys.yaml]
registries: {list: {type: file, path: engines.json}}
listeners:
  api: {bind: "127.0.0.1:8080", tls: {cert: a.crt, key: a.key}}
channels:
  gpu: {engine: vllm, endpoints: {registry: list}, credential: "${file:gpu.secret}", headers: {X: "${env:TEAM}"}} # ${env:NOT_ME}
models: {m: {targets: [{channel: gpu, model: q}]}}
"""


def test_each_file_is_what_it_is(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("a")
    (tmp_path / "gpu.secret").write_text("hush-hush\n")
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    (tmp_path / "gateway.yaml").write_text(TEXT)
    found = named(tmp_path / "gateway.yaml", {"TEAM": "search"})
    assert {path.name: kind for path, kind in found.files.items()} == {
        "gateway.yaml": "yaml", "keys.yaml": "yaml", "gpu.secret": "secret", "a.key": "secret", "a.crt": "other", "engines.json": "other",
    }  # fmt: skip
    assert found.secrets >= {"hush-hush", "search"} and found.variables == ("TEAM",) and found.literal == ()
    assert str(key).endswith("a.key") and str(cert).endswith("a.crt")


def test_with_mistakes_and_with_nothing(tmp_path):
    (tmp_path / "gateway.yaml").write_text(TEXT.replace("version: 1", "version: 2").replace('"${file:gpu.secret}"', "sk-in-plain-text"))
    found = named(tmp_path / "gateway.yaml", {})
    assert tmp_path / "gateway.yaml" in found.files and found.literal == (tmp_path / "gateway.yaml",)
    assert "sk-in-plain-text" in found.secrets
    assert named(tmp_path / "none.yaml", {}).texts == {}


def test_an_include_that_cannot_be_read_is_still_one(tmp_path):
    (tmp_path / "gateway.yaml").write_text("version: 1\ninclude: [more.yaml]\n")
    (tmp_path / "more.yaml").write_bytes(b"\xff\xfe")
    assert named(tmp_path / "gateway.yaml", {}).files[tmp_path / "more.yaml"] == "yaml"


def test_a_symlink_to_a_file_of_the_configuration_is_no_secret(tmp_path):
    (tmp_path / "real.yaml").write_text("version: 1\n")
    (tmp_path / "gateway.yaml").symlink_to("real.yaml")
    assert set(named(tmp_path / "gateway.yaml", {}).files.values()) == {"yaml"}
