"""API keys by the SHA-256 of their secret, and what each may use. The secret itself is never kept."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from gateway.config.resolved import Key
from gateway.errors import Refusal

ANONYMOUS = Key(id="", digest=b"", tenant="", project="", models=("*",))
"""Who calls when the configuration says `auth: none`."""


REMEMBERED = 10_000


class Keyring:
    """All keys of one snapshot. Filled in slices (`add`), so that a hundred thousand keys hold up no loop."""

    __slots__ = ("_allowed", "_by_digest", "_open", "_usable")

    def __init__(self, auth: str) -> None:
        self._by_digest: dict[bytes, Key] = {}
        self._open = auth == "none"
        self._allowed: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = {}
        self._usable: dict[tuple[str, ...], frozenset[str]] = {}

    def add(self, keys: Iterable[Key]) -> None:
        self._by_digest.update((key.digest, key) for key in keys)

    def __len__(self) -> int:
        return len(self._by_digest)

    def identify(self, authorization: str | None) -> Key:
        """The key of an `Authorization` header. Refuses with 401; wrong and unknown look alike to the caller."""
        if self._open:
            return ANONYMOUS
        if not authorization:
            raise Refusal(
                401, "missing_api_key", "You didn't provide an API key. Send it as: Authorization: Bearer YOUR_KEY", phase="K", log="no key"
            )
        if authorization.startswith("Bearer "):
            secret = authorization[7:]
        else:
            scheme, _, secret = authorization.partition(" ")
            secret = secret if scheme.lower() == "bearer" else ""
        if not secret:
            raise Refusal(401, "invalid_api_key", "The Authorization header must be: Bearer YOUR_KEY", phase="K", log="not a bearer header")
        key = self._by_digest.get(hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest())
        if key is None:
            raise Refusal(401, "invalid_api_key", "Incorrect API key provided.", phase="K", log="unknown key")
        return key

    def allows(self, key: Key, *names: str) -> bool:
        """Whether `key` may use a model known by any of these names. Remembered: the same question comes with every request."""
        found = self._allowed.get((key.models, names))
        if found is None:
            if len(self._allowed) >= REMEMBERED:
                self._allowed.clear()
            found = self._allowed[key.models, names] = any(may_use(key, name) for name in names)
        return found

    def still(self, key: Key) -> bool:
        """Whether who got in with this key, under an earlier revision, may stay. Who came without a key, when none was asked for, may."""
        return not key.digest or key.digest in self._by_digest

    def usable(self, key: Key, models: Iterable[str]) -> frozenset[str]:
        """The names among `models` (always the same for one snapshot) that `key` may use."""
        found = self._usable.get(key.models)
        if found is None:
            found = self._usable[key.models] = frozenset(name for name in models if may_use(key, name))
        return found


def may_use(key: Key, name: str) -> bool:
    """Whether one of the key's globs means this name. Only `*` is special: `[` and `?` may stand in names."""
    return any(_pattern(glob).fullmatch(name) for glob in key.models)


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))), re.S)
