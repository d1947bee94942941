"""A NATS operator with an account: a server's configuration, and `.creds` files of users, as `nsc` writes them."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import nkeys

OPERATOR, ACCOUNT, USER = nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER
_NO_LIMITS = dict.fromkeys(("subs", "data", "payload"), -1)


class Key:
    """An nkey: seed and public key as texts."""

    def __init__(self, kind: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), kind).decode()
        self.public: str = self._pair().public_key.decode()

    def _pair(self) -> Any:
        return nkeys.from_seed(self.seed.encode())  # it may be asked once only

    def claims(self, subject: Key, kind: str, about: dict[str, Any], **more: Any) -> str:
        """A JWT in which this key says something of `subject`; `more` are claims of JWT itself, such as `exp`."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": uuid.uuid4().hex,
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": kind,
            "nats": {"type": kind, "version": 2, **about},
            **more,
        }
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, body))
        return f"{text}.{_base64(self._pair().sign(text.encode()))}"


class Operator:
    """An operator with one account."""

    def __init__(self) -> None:
        self._operator, self._account = Key(OPERATOR), Key(ACCOUNT)

    def server_options(self, directory: Path) -> list[str]:
        """Options of a nats-server that lets in the users of this operator only."""
        limits = {**_NO_LIMITS, "imports": -1, "exports": -1, "conn": -1, "leaf": -1, "wildcards": True}
        account = self._operator.claims(self._account, "account", {"limits": limits})
        file = directory / "operator.conf"
        file.write_text(
            f"operator: {self._operator.claims(self._operator, 'operator', {})}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {self._account.public}: {account} }}\n"
        )
        return ["-c", str(file)]

    def credentials(self, file: Path, **claims: Any) -> Path:
        """Write the `.creds` file of a new user; `claims` of JWT itself are added, such as `exp`."""
        user = Key(USER)
        token = self._account.claims(user, "user", {"pub": {}, "sub": {}, **_NO_LIMITS}, **claims)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return file


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
