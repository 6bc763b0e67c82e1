"""The data directory is found whatever else is wrong, and without loading much."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.locate import data_dir_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("data_dir: /srv/gw\n", "/srv/gw"),
        ("version: [[[\ndata_dir: /srv/gw  # here\nx", "/srv/gw"),
        ('"data_dir": "/srv/g w"\r\n', "/srv/g w"),
        ("data_dir: '/srv/it''s'\n", "/srv/it's"),
        ("data_dir: state/../here\n", "HERE/here"),
        ("data_dir: ${env:STATE_OF_TEST:-/srv}/gw\n", "/srv/gw"),
        ("data_dir: ${env:STATE_OF_TEST}\n", "/var/lib/gateway"),
        ("x:\n  data_dir: /no\n#data_dir: /no\n", "/var/lib/gateway"),
        ("{version: 1, data_dir: /srv/gw}\n", "/srv/gw"),
        ('{\n "version": 1,\n "data_dir": "/srv/gw",\n "x": 1}\n', "/srv/gw"),
        ("data_dir:\n", "/var/lib/gateway"),
        ("\xff\x00", "/var/lib/gateway"),
    ],
)
def test_it_is_found(text, found, tmp_path):
    (tmp_path / "gateway.yaml").write_bytes(text.encode("latin-1"))
    assert str(data_dir_of(tmp_path / "gateway.yaml")) == found.replace("HERE", str(tmp_path))


def test_without_a_file_it_is_the_default(tmp_path):
    assert str(data_dir_of(tmp_path / "none")) == str(data_dir_of(tmp_path)) == "/var/lib/gateway"


@pytest.mark.parametrize("module", ["resolved", "locate", "keys", "report", "revisions", "diff", "redact"])
def test_what_workers_and_quick_commands_import_loads_no_pydantic(module):
    code = f"import sys, gateway.config.{module}; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
