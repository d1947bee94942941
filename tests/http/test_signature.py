"""Signatures of route services (contract §10.3), also one made with openssl's and Go's building blocks by hand."""

from __future__ import annotations

import json
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from router.http.signature import BadSignature, Expired, check_age, read_signature, sign, signature_key

KEY = signature_key("secret")
OTHER = signature_key("older")
URL = "https://app.test/path?q=%20"
NOW = 1_790_000_000_123_456_789


def sealed(claim: bytes, key: bytes = KEY, nonce: bytes = b"0123456789ab") -> tuple[bytes, bytes]:
    """A signature of whatever."""
    metadata = json.dumps({"nonce": "MDEyMzQ1Njc4OWFi"}).encode()
    return urlsafe_b64encode(AESGCM(key).encrypt(nonce, claim, None)), urlsafe_b64encode(metadata)


def test_the_key_is_the_contracts() -> None:
    """`openssl kdf -keylen 16 -kdfopt digest:SHA256 -kdfopt pass:secret -kdfopt salt: -kdfopt iter:100001 PBKDF2`"""
    assert KEY.hex() == "1f2b6e613f704b5c5602c46ba1ab02a7"


def test_what_is_signed_can_be_read() -> None:
    signature, metadata = sign(KEY, URL, NOW)
    claim, number = read_signature((OTHER, KEY), signature, metadata)
    assert (claim.forwarded_url, number) == (URL, 1)
    assert claim.requested_time.timestamp() == pytest.approx(NOW / 1e9, abs=1e-5)
    nonce = b64decode(json.loads(urlsafe_b64decode(metadata))["nonce"])
    plain = AESGCM(KEY).decrypt(nonce, urlsafe_b64decode(signature), None)
    assert json.loads(plain) == {"forwarded_url": URL, "requested_time": "2026-09-21T14:13:20.123456789Z"}


def test_no_two_are_alike() -> None:
    assert len({sign(KEY, URL, NOW) for _ in range(100)}) == 100


@pytest.mark.parametrize("stamp", ["2026-09-21T14:13:20Z", "2026-09-21T16:13:20.000000001+02:00"])
def test_times_as_others_write_them(stamp: str) -> None:
    claim, _ = read_signature((KEY,), *sealed(json.dumps({"forwarded_url": URL, "requested_time": stamp}).encode()))
    assert claim.requested_time.timestamp() == pytest.approx(1_790_000_000, abs=1e-3)


@pytest.mark.parametrize(
    ("signature", "metadata", "reason"),
    [
        (b"", b"", "No metadata found"),
        (sign(KEY, URL, NOW)[0], b"", "No metadata found"),
        (sign(KEY, URL, NOW)[0], b"%%%", "illegal base64 data"),
        (sign(KEY, URL, NOW)[0], b"e30", "illegal base64 data"),
        (sign(KEY, URL, NOW)[0], b"e30=", "Object missing required field `nonce`"),
        (sign(KEY, URL, NOW)[0], urlsafe_b64encode(b"nonsense"), "JSON is malformed"),
        (sign(KEY, URL, NOW)[0], urlsafe_b64encode(b'{"nonce":"MDEy"}'), "incorrect nonce length"),
        (sign(KEY, URL, NOW)[0], urlsafe_b64encode(b'{"nonce":"!"}'), ""),
        (b"x+/y", sealed(b"")[1], "illegal base64 data"),
        (b"abcd", sealed(b"")[1], "cipher: message authentication failed"),
        (b"", sealed(b"")[1], "cipher: message authentication failed"),
        (sign(KEY, URL, NOW)[0], sealed(b"")[1], "cipher: message authentication failed"),
        (*sign(OTHER, URL, NOW), "cipher: message authentication failed"),
        (*sealed(b"[]"), "Expected `object`"),
        (*sealed(b'{"forwarded_url":"x","requested_time":"yesterday"}'), "Invalid RFC3339 encoded datetime"),
        (*sealed(b'{"forwarded_url":"x","requested_time":"2026-09-21T14:13:20"}'), "requested_time has no time zone"),
    ],
)
def test_what_does_not_count(signature: bytes, metadata: bytes, reason: str) -> None:
    with pytest.raises(BadSignature) as bad:
        read_signature((KEY,), signature, metadata)
    assert reason in str(bad.value)


@pytest.mark.parametrize(("age", "counts"), [(0.0, True), (59.9, True), (60.1, False), (-3600.0, True)])
def test_age(age: float, counts: bool) -> None:
    claim, _ = read_signature((KEY,), *sign(KEY, URL, int((time.time() - age) * 1e9)))
    if counts:
        check_age(claim, 60.0, time.time())
    else:
        with pytest.raises(Expired, match="route service request expired"):
            check_age(claim, 60.0, time.time())
