"""The signature by which a request comes back from a route service (contract §10.3). Bytes in, bytes out.

It is the URL that the client asked for and the time, encrypted: whoever can make one knows the secret. The key is
derived by control (`signature_key`), so a worker never sees the secret. AES comes from `cryptography`, imported with
the first signature.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from base64 import b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import msgspec

NONCE = 12  # bytes
_ROUNDS = 100001
_KEY = 16  # bytes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadSignature(Exception):
    """Why a signature does not count; the message is the contract's REASON."""


class Expired(BadSignature):
    """It is a good one, but too old."""


class Claim(msgspec.Struct):
    """What a signature says."""

    forwarded_url: str
    requested_time: datetime


class _Metadata(msgspec.Struct):
    nonce: str


def signature_key(secret: str) -> bytes:
    """The AES key of a secret. Takes tens of milliseconds, on purpose."""
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", _ROUNDS, _KEY)


def sign(key: bytes, forwarded_url: str, now_ns: int) -> tuple[bytes, bytes]:
    """Values of `X-CF-Proxy-Signature` and `X-CF-Proxy-Metadata`; `now_ns` is unix time in nanoseconds."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    seconds, fraction = divmod(now_ns, 1_000_000_000)
    stamp = f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
    claim = msgspec.json.encode({"forwarded_url": forwarded_url, "requested_time": stamp})
    nonce = os.urandom(NONCE)
    metadata = msgspec.json.encode({"nonce": nonce})
    return urlsafe_b64encode(AESGCM(key).encrypt(nonce, claim, None)), urlsafe_b64encode(metadata)


def read_signature(keys: tuple[bytes, ...], signature: bytes, metadata: bytes) -> tuple[Claim, int]:
    """What a signature says, and the number of the key that opens it. Raises BadSignature."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not metadata:
        raise BadSignature("No metadata found")
    try:
        nonce = b64decode(msgspec.json.decode(_decoded(metadata), type=_Metadata).nonce, validate=True)
        sealed = _decoded(signature)
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadSignature(str(error)) from None
    if len(nonce) != NONCE:
        raise BadSignature("incorrect nonce length")
    for number, key in enumerate(keys):
        try:
            opened = AESGCM(key).decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            continue
        try:
            claim = msgspec.json.decode(opened, type=Claim)
        except msgspec.MsgspecError as error:
            raise BadSignature(str(error)) from None
        if claim.requested_time.tzinfo is None:
            raise BadSignature("requested_time has no time zone")
        return claim, number
    raise BadSignature("cipher: message authentication failed")


def check_age(claim: Claim, timeout: float, now: float) -> None:
    """Raises Expired when it was made more than `timeout` seconds before `now`, unix time."""
    if now - claim.requested_time.timestamp() > timeout:
        raise Expired("route service request expired")


def _decoded(value: bytes) -> bytes:
    """URL-safe base64 with padding, and nothing else. Raises ValueError."""
    if b"+" in value or b"/" in value:
        raise ValueError("illegal base64 data")
    try:
        return binascii.a2b_base64(value.translate(_FROM_URL), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from None


_FROM_URL = bytes.maketrans(b"-_", b"+/")
