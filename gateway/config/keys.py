"""API keys as text: `gw_<id>_<43 base62>_<crc6>`. The secret is shown once; only its SHA-256 is kept."""

import hashlib
import re
import secrets
import zlib
from typing import Final

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IDS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_RANDOM_LENGTH: Final = 43
_CHECK_LENGTH: Final = 6
_ours = re.compile(rf"gw_[A-Za-z0-9.-]+_[A-Za-z0-9]{{{_RANDOM_LENGTH}}}_[A-Za-z0-9]{{{_CHECK_LENGTH}}}\Z")
_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}\Z")


def new_id() -> str:
    """Eight characters that are hard to misread (no l, o, 0, 1)."""
    return "".join(secrets.choice(_IDS) for _ in range(8))


def new_secret(id: str | None = None) -> tuple[str, str, str]:
    """(id, secret, hash) of a new key. The random part has 256 bits. Raises ValueError for an id that a secret cannot carry."""
    if id is None:
        id = new_id()
    if not _id.match(id):
        raise ValueError(f"{id!r} cannot be a key's id: ASCII letters, digits, `.` and `-` only, at most 64")
    random = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_LENGTH))
    body = f"gw_{id}_{random}"
    secret = f"{body}_{_check(body)}"
    return id, secret, hash_of(secret)


def checksum_ok(secret: str) -> bool:
    """Whether a secret has our form and its last six characters fit: finds typing errors without any look-up."""
    return bool(_ours.match(secret)) and secret[-_CHECK_LENGTH:] == _check(secret[: -_CHECK_LENGTH - 1])


def hash_of(secret: str) -> str:
    """`sha256:<64 hex>` of the whole secret, as `keys` in the configuration wants it."""
    return "sha256:" + hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _check(body: str) -> str:
    """CRC32 in base62, six characters, zeros in front."""
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
