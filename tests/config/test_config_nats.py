"""Seeds of nkeys and `.creds` files: what is wrong with one is said before anybody tries to connect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from router.config.load import Loaded
from router.config.problems import ConfigError
from tests.support.nats_jwt import ACCOUNT, USER, Key, Operator

LoadText = Callable[..., Loaded]
SEED = Key(USER).seed
OTHER_LETTER = "B" if SEED[9] == "A" else "A"


def test_a_seed_and_a_file_that_are_good(load_text: LoadText, tmp_path: Path) -> None:
    Operator().credentials(tmp_path / "router.creds")
    config = load_text(f"nats: {{nkey_seed: {SEED}, credentials: router.creds}}").config
    assert config.nats is not None
    assert config.nats.credentials == "router.creds"


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ("nonsense", "it is no seed of a user's nkey: `SU` and 56 more of A-Z, 2-7 (copy the whole seed)"),
        (Key(ACCOUNT).seed, "it is no seed of a user's nkey"),
        (SEED[:9] + OTHER_LETTER + SEED[10:], "it is no seed of an nkey: its checksum is wrong"),
    ],
)
def test_a_seed_that_is_none(seed: str, message: str, load_text: LoadText) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"nats:\n  nkey_seed: {seed}")
    (problem,) = caught.value.problems
    assert str(problem).startswith("router.yml:2:14: nats.nkey_seed: ")
    assert message in str(problem)
    assert seed not in str(problem)


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        (0, 0, "x.creds is no `.creds` file: there is no user JWT in it"),
        (40, None, "x.creds is no `.creds` file: there is no user JWT in it"),
        (0, 400, "x.creds is no `.creds` file: there is no"),
        (0, -60, "x.creds is no `.creds` file: there is no nkey seed in it"),
    ],
)
def test_a_file_that_is_none(begin: int, end: int | None, message: str, load_text: LoadText, tmp_path: Path) -> None:
    file = Operator().credentials(tmp_path / "x.creds")
    file.write_text(file.read_text()[begin:end])
    with pytest.raises(ConfigError) as caught:
        load_text("nats: {credentials: x.creds}")
    (problem,) = caught.value.problems
    assert message in str(problem)


def test_a_file_that_is_not_there(load_text: LoadText) -> None:
    with pytest.raises(ConfigError, match=r"can't read x\.creds: No such file or directory \(name a `\.creds` file"):
        load_text("nats: {credentials: x.creds}")
