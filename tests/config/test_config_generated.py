"""What is made from the model and checked in: the reference page, the sample file and the JSON schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.keys import LEAVES, NAMES
from router.config.load import load
from router.config.model import RouterConfig
from router.config.reference import json_schema, reference_page, sample_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "made", "command"),
    [
        ("docs/configuration.md", reference_page(), "router config --reference"),
        ("config/router.yml", sample_file(), "router config --sample"),
        (
            "config/router.schema.json",
            json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
            "router schema",
        ),
    ],
)
def test_checked_in_files_are_true(file: str, made: str, command: str) -> None:
    assert (ROOT / file).read_text() == made, f"{command} > {file}"


def test_the_sample_file_holds_every_key_and_says_the_defaults() -> None:
    loaded = load(ROOT / "config/router.yml", {})
    assert loaded.config == RouterConfig()
    assert not loaded.warnings
    unset = {"run_dir", "local_route", "drain_timeout"}
    assert {key for key, origin in loaded.origins.items() if origin == "default"} == unset
    text = (ROOT / "config/router.yml").read_text()
    assert text.startswith("# yaml-language-server: $schema=router.schema.json\n")
    assert all(f"# {key}:" in text for key in unset)


SCHEMA = json_schema()


def _schema_of(key: str) -> dict[str, Any]:
    node = SCHEMA
    for step in key.split("."):
        node = node["properties"][step]
        for candidate in (node, *node.get("anyOf", ())):
            if "$ref" in candidate:
                node = SCHEMA["$defs"][candidate["$ref"].rpartition("/")[2]]
    return node


def test_the_schema_has_every_key() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["additionalProperties"] is False
    for key in NAMES:
        schema = _schema_of(key)
        assert schema["description"], key
        assert schema.get("deprecated", False) is (key not in LEAVES), key


def test_the_schema_of_a_duration() -> None:
    text, number = _schema_of("endpoint_timeout")["anyOf"]
    assert number == {"type": "integer"}
    assert text["type"] == "string"
    assert re.match(text["pattern"], "1m30s")
    assert not re.match(text["pattern"], "1m 30s")


def test_the_schema_has_defaults_as_a_file_writes_them() -> None:
    sample = yaml.safe_load(sample_file())
    assert _schema_of("status.pass")["default"] == sample["status"]["pass"] == ""
    assert _schema_of("frontend_idle_timeout")["default"] == sample["frontend_idle_timeout"] == "15m"
