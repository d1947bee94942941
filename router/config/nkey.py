"""Seeds of nkeys and `.creds` files of NATS, checked without the library that signs with them.

A seed is base32: two bytes of what it is for (`SU…`: a user), 32 bytes of key, and the CRC-16 (XMODEM, low byte first)
of both, so that one that was copied wrongly is known at once.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

_SEED = re.compile(r"SU[A-Z2-7]{56}", re.ASCII)
_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+[\w-]+\.[\w-]+\.[\w-]+\s+-+END NATS USER JWT-+", re.ASCII)
_KEY = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED-+", re.ASCII)


class NkeyError(Exception):
    """What is wrong with a seed or file; the message never shows a seed."""


def check_seed(text: str) -> None:
    """Raises NkeyError for what is no seed of a user."""
    if not _SEED.fullmatch(text):
        raise NkeyError("it is no seed of a user's nkey: `SU` and 56 more of A-Z, 2-7")
    data = base64.b32decode(text + "======")
    if binascii.crc_hqx(data[:-2], 0) != int.from_bytes(data[-2:], "little"):
        raise NkeyError("it is no seed of an nkey: its checksum is wrong, so it was copied wrongly")


def check_credentials(path: str) -> None:
    """Raises NkeyError for a file that is no `.creds` file."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise NkeyError(f"can't read {path}: {why or error}") from None
    key = _KEY.search(text)
    if not _JWT.search(text) or key is None:
        missing = "nkey seed" if _JWT.search(text) else "user JWT"
        raise NkeyError(f"{path} is no `.creds` file: there is no {missing} in it")
    try:
        check_seed(key[1])
    except NkeyError as error:
        raise NkeyError(f"the seed in {path}: {error}") from None
