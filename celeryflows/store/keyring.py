"""The keys of `flows_encryption_keys`: the first seals, all open, and a hash of what is waited for tells nothing."""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from celeryflows.codec import SEALED, is_sealed
from celeryflows.errors import ConfigurationError

# In place of the first key: nothing is sealed yet, or any more.
PLAIN = "plain"
KEY_BYTES = 32
MAKE_ONE = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class Keyring:
    """Fernet keys (cryptography.io/en/latest/fernet), the newest first. A text says under which key it is sealed.

    Raises ConfigurationError for what is no key, and when `cryptography` is not installed.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        texts = [key.decode() if isinstance(key, bytes) else key for key in keys]
        if not texts:
            raise ConfigurationError(f"flows_encryption_keys is empty. Remove it, or make a key: {MAKE_ONE}")
        raw = {_fingerprint(key): key for key in (_key(text, i) for i, text in enumerate(texts) if text != PLAIN)}
        self._fernets = {name: _fernet(key) for name, key in raw.items()}
        self._marking = {
            name: blake2b(key, digest_size=KEY_BYTES, person=b"flows mark").digest() for name, key in raw.items()
        }
        self.fingerprints = frozenset(raw)
        self.writes_under = None if texts[0] == PLAIN else next(iter(raw))

    def seal(self, text: str) -> str:
        """The text under the first key."""
        if self.writes_under is None:
            return text
        token: bytes = self._fernets[self.writes_under].encrypt(text.encode("utf-8", "surrogatepass"))
        return f"{SEALED}{self.writes_under}:{token.decode()}"

    def open(self, text: str) -> str:
        """The text again, or as it is when it is plain or its key is not here."""
        if not is_sealed(text):
            return text
        name, _, token = text.removeprefix(SEALED).partition(":")
        fernet = self._fernets.get(name)
        if fernet is None:
            return text
        try:
            opened: bytes = fernet.decrypt(token.encode())
        except Exception:
            # Cut or changed: who needs it is told by `loads`.
            return text
        return opened.decode("utf-8", "surrogatepass")

    def mark(self, wait_hash: int) -> int:
        """The hash under which a wait is stored."""
        return wait_hash if self.writes_under is None else self._marked(self.writes_under, wait_hash)

    def marks(self, hashes: Iterable[int]) -> list[int]:
        """All the hashes under which waits for these may stand."""
        return [one for plain in hashes for one in (plain, *(self._marked(name, plain) for name in self._marking))]

    def _marked(self, name: str, plain: int) -> int:
        digest = blake2b(struct.pack(">q", plain), digest_size=8, key=self._marking[name]).digest()
        return int.from_bytes(digest, "big", signed=True)


def _key(text: object, index: int) -> bytes:
    try:
        key = urlsafe_b64decode(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        # The text itself may be most of a key: it is not shown.
        raise ConfigurationError(
            f"flows_encryption_keys[{index}] is no Fernet key (32 bytes in URL-safe base64). Make one: {MAKE_ONE}"
        )
    return key


def _fingerprint(key: bytes) -> str:
    """Names a key without telling it."""
    return blake2b(key, digest_size=4, person=b"flows name").hexdigest()


def _marking_key(key: bytes) -> bytes:
    """Another key for the hashes of waits: what they may tell says nothing of the first."""
    return blake2b(key, digest_size=KEY_BYTES, person=b"flows mark").digest()


def _fernet(key: bytes) -> Any:
    try:
        from cryptography.fernet import Fernet
    except ImportError as error:
        raise ConfigurationError(
            "flows_encryption_keys needs the package cryptography. Install it: pip install 'celeryflows[encryption]'"
        ) from error
    return Fernet(urlsafe_b64encode(key))
