"""API keys by the SHA-256 of their secret, and what each may do. Only the connection that sent a secret keeps it. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from gateway.auth.permit import Opens, Permit
from gateway.config.keys import checksum_ok
from gateway.config.resolved import Key
from gateway.config.resolved_access import OPEN, Access
from gateway.errors import Refusal
from gateway.words import End

ANONYMOUS: Final = Key("", b"", "", "", systems=("*",))
"""Who calls when the configuration says `auth: none`."""


class Visitor:
    """Who asked last on a connection: the same header under the same keys is the same key, and need not be hashed once more."""

    __slots__ = ("authorization", "key", "keyring")

    def __init__(self) -> None:
        self.keyring: Keyring | None = None
        """That knew the key; None = nobody has asked yet."""
        self.authorization = ""
        self.key = ANONYMOUS


class Keyring:
    """All keys of one snapshot. Filled in slices (`add`), so that a hundred thousand keys hold up no loop."""

    __slots__ = ("_access", "_by_digest", "_open", "_permits", "_shared", "schedules")

    def __init__(self, auth: str, access: Mapping[str, Access]) -> None:
        """access: of tenants and projects, by their place."""
        self._by_digest: dict[bytes, Key] = {}
        self._open = auth == "none"
        self._access = access
        self._permits: dict[bytes, Permit] = {}
        self._shared: dict[tuple[str, str, Access], Permit] = {}
        self.schedules: Mapping[str, Opens] = {}
        """By name. Set before the first caller comes."""

    def add(self, keys: Iterable[Key]) -> None:
        known = self._by_digest
        for key in keys:
            known[key.digest] = key
            if key.previous:
                expires = min(key.until, key.expires or key.until)
                known[key.previous] = replace(key, digest=key.previous, expires=expires, previous=b"", until=0.0)

    def let_go(self, most: int) -> bool:
        """Forgets so many keys, once nobody asks any more: all at once would hold a loop up. False when none is left."""
        for known in (self._by_digest, self._permits):
            for _ in range(min(most, len(known))):
                known.popitem()
        return bool(self._by_digest or self._permits)

    def __len__(self) -> int:
        return len(self._by_digest)

    def identify(self, authorization: str | None, visitor: Visitor) -> Key:
        """The key of an `Authorization` header. Refuses with 401; mistyped and unknown look alike to the caller."""
        if self._open:
            return ANONYMOUS
        if visitor.keyring is self and visitor.authorization == authorization:
            return visitor.key
        if not authorization:
            said = "You didn't provide an API key. Send it as: Authorization: Bearer YOUR_KEY"
            raise Refusal(401, "missing_api_key", said, phase=End.KEY, log="no key")
        if authorization.startswith("Bearer "):
            secret = authorization[7:]
        else:
            scheme, _, secret = authorization.partition(" ")
            secret = secret if scheme.lower() == "bearer" else ""
        if not secret:
            said = "The Authorization header must be: Bearer YOUR_KEY"
            raise Refusal(401, "invalid_api_key", said, phase=End.KEY, log="not a bearer header")
        key = self._by_digest.get(hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest())
        if key is None:
            raise Refusal(401, "invalid_api_key", "Incorrect API key provided.", phase=End.KEY, log=_what_is_wrong(secret.strip()))
        visitor.keyring, visitor.authorization, visitor.key = self, authorization, key
        return key

    def permit(self, key: Key) -> Permit:
        """What an identified key may do. Keys that open the same share one."""
        found = self._permits.get(key.digest)
        if found is None:
            alike = key.tenant, key.project, key.access
            found = self._shared.get(alike)
            if found is None:
                places = f"tenants/{key.tenant}", f"tenants/{key.tenant}/projects/{key.project}"
                found = self._shared[alike] = Permit([*(self._access.get(place, OPEN) for place in places), key.access], self.schedules)
            self._permits[key.digest] = found
        return found

    def lost(self, key: Key) -> Refusal | None:
        """Why who got in with this key under an earlier revision must go: it is revoked, or disabled. None: it is good still, or nobody
        had asked for one."""
        now = self._by_digest.get(key.digest)
        if not key.digest or (now is not None and now.enabled):
            return None
        if now is None:
            return Refusal(401, "invalid_api_key", "This API key has been revoked.", phase=End.KEY, log="key_revoked", who=End.OPERATOR)
        return Refusal(401, "key_disabled", "This API key has been disabled.", phase=End.KEY, log="key_disabled", who=End.OPERATOR)


def standing(key: Key, now: float) -> None:
    """Refuses, with 401, a key that is disabled or has expired. now: seconds since 1970."""
    if not key.enabled:
        raise Refusal(401, "key_disabled", "This API key is disabled. Ask whoever gave it to you.", phase=End.KEY)
    if key.expires and now >= key.expires:
        raise Refusal(401, "key_expired", "This API key has expired. Ask whoever gave it to you.", phase=End.KEY)


def _what_is_wrong(secret: str) -> str:
    """What only our log may know: one of our form whose last characters do not fit was mistyped or cut off."""
    return "mistyped key" if secret.startswith("gw_") and not checksum_ok(secret) else "unknown key"
