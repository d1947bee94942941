"""What is written from the model: the reference page, the sample file and the JSON schema.

All three are checked in (`docs/configuration.md`, `config/router.yml`, `config/router.schema.json`), and a
test holds them equal to what is made here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from router.config.dialects import ACTIVE_APPS, CLASSIC_ONLY, MBUS_EXPECTED, RENAMED
from router.config.keys import BRANCHES, LEAVES, MBUS
from router.config.known import KNOWN, NEEDLESS
from router.config.model import RouterConfig

SCHEMA_FILE = "router.schema.json"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_DEFAULTS = RouterConfig()
_MBUS_MEANING = f"NATS servers and credentials, {MBUS_EXPECTED}; several with commas between or as a list"

_INTRODUCTION = """\
# Configuration

<!-- Made by `router config --reference` from router/config/model.py; a test keeps it true. -->

One YAML file: `router -c FILE`. Without `-c` the file is `router.yml` in `$CLOUD_FOUNDRY_CONFIG_PATH` if that
is set; otherwise there is no file and the defaults hold. `router check -c FILE` reports all mistakes at once,
`router config --effective -c FILE` shows every value and where it comes from, and `config/router.yml` holds
all keys with their defaults.

## Rules

- **Precedence**: flag (`-p`, `-i`) over environment over file over default. A key that is given replaces its
  default whole, lists too. `null` means the default; only `nats: null` means something else, no bus at all.
- **Environment**: `ROUTER__NATS__USER` is `nats.user`: two underscores between levels. Lists and numbers are
  written as in YAML: `ROUTER__NATS__HOSTS='[{hostname: a, port: 4222}]'`. Texts are taken as they are. An
  empty variable counts as not given, except for texts.
- **Secrets**: every variable also exists with `_FILE` at its end and then names a file with the value:
  `ROUTER__NATS__PASS_FILE=/run/secrets/nats`. No message and no output shows a secret.
- **Durations** are written as `30s`, `1m30s`, `500ms`, `1h`. A bare number is nanoseconds, as in the Go
  router, so `60` draws a warning.
- **YAML 1.1**: `on`, `yes` and `true` are the same. A number is fine where a text is wanted and is taken as
  written.
- **Unknown keys are errors**, and so is a key given twice. Keys of the Go router that this version does not
  support yet are listed below: they draw a warning unless their value switches them off.
- **Two dialects** are understood, today's `gorouter.yml` and the `router.yml` of 2011-2013. A file speaks the
  older one if it has one of CLASSIC.
  `status.enable_deprecated_varz_healthz_endpoints` is then true unless it is given: that router always was such
  a component.
"""

_OLDER = """\
## Older names

The first form of a key may be used instead of the second, but not beside it.
"""

_UNSUPPORTED = """\
## Known but not supported yet

These keys are accepted with a warning. Until they are supported:
"""


_NEEDLESS = """\
## Not needed

These keys are accepted and change nothing.
"""


def yaml_value(value: object) -> str:
    """One value on one line, as YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def reference_page() -> str:
    """The text of docs/configuration.md."""
    parts = [_INTRODUCTION.replace("CLASSIC", ", ".join(f"`{key}`" for key in sorted(CLASSIC_ONLY)))]
    for section in ("", *BRANCHES):
        rows = [
            (
                f"`{path}`",
                leaf.kind.expected,
                f"`{_default(path)}`" if _default(path) else "none",
                _one_line(leaf.field.description),
            )
            for path, leaf in LEAVES.items()
            if path.rpartition(".")[0] == section
        ]
        meaning = f"## `{section}`\n\n{_one_line(BRANCHES[section].section.__doc__)}\n" if section else "## Top level\n"
        parts += [meaning, _table(("key", "value", "default", "meaning"), rows)]
    older = [(f"`{old}`", f"`{new}`") for old, new in RENAMED.items()]
    older += [(f"`{key}`", meaning) for key, meaning in ACTIVE_APPS.items()]
    older.append((f"`{MBUS}`", f"`nats.hosts`, `nats.user`, `nats.pass`: {_MBUS_MEANING}"))
    parts += [_OLDER, _table(("older name", "now"), older)]
    unsupported = [(f"`{key}`", meaning) for key, meaning in sorted(KNOWN.items())]
    parts += [_UNSUPPORTED, _table(("key", "what that means"), unsupported)]
    needless = [(f"`{key}`", meaning) for key, meaning in sorted(NEEDLESS.items())]
    parts += [_NEEDLESS, _table(("key", "why"), needless)]
    return "\n".join(parts)


def sample_file() -> str:
    """The text of config/router.yml: every key with its meaning and default."""
    head = (
        f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
        "# Every key with its default, made by `router config --sample`. Rules: docs/configuration.md\n"
    )
    return head + "\n".join(_sample("")) + "\n"


def _sample(section: str) -> Iterator[str]:
    """The lines of one section: its own keys in the order of the model, then the sections below it."""
    depth = section.count(".") + 1 if section else 0
    indent = "  " * depth
    for path, leaf in LEAVES.items():
        parent, _, name = path.rpartition(".")
        if parent == section:
            setting = f"{name}: {_default(path)}" if _default(path) else f"# {name}:"
            yield from ("", *_comment(_one_line(leaf.field.description), indent), indent + setting)
    for path, branch in BRANCHES.items():
        parent, _, name = path.rpartition(".")
        if parent == section:
            yield from ("", *_comment(_one_line(branch.section.__doc__), indent), f"{indent}{name}:")
            yield from _sample(path)


def json_schema() -> dict[str, Any]:
    """JSON schema of the file (draft 2020-12); older and not yet supported keys are in it as deprecated."""
    schema: dict[str, Any] = {"$schema": _DRAFT, **RouterConfig.model_json_schema()}
    for path, leaf in LEAVES.items():  # pydantic writes defaults as Python has them and keeps line breaks
        field = _properties(schema, path)[path.rpartition(".")[2]]
        field |= {"default": leaf.shown_in(_DEFAULTS), "description": _one_line(leaf.field.description)}
    others = {old: f"Older name of `{new}`." for old, new in RENAMED.items()}
    others |= {key: f"Known but not supported yet: {meaning}." for key, meaning in KNOWN.items()}
    others |= {key: f"Not needed: {meaning}." for key, meaning in NEEDLESS.items()}
    others |= {key: f"Older form of {meaning}." for key, meaning in ACTIVE_APPS.items()}
    others[MBUS] = f"{_MBUS_MEANING}."
    for path, description in others.items():
        name = path.rpartition(".")[2]
        _properties(schema, path)[name] = {"description": description, "deprecated": True}
    return schema


def _properties(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """The properties of the section that `path` is in, through references and "or null"; made if missing."""
    section = schema
    for name in path.split(".")[:-1]:
        missing = {"type": "object", "properties": {}, "additionalProperties": False}
        section = section["properties"].setdefault(name, missing)
        for candidate in (section, *section.get("anyOf", ())):
            if "$ref" in candidate:
                section = schema["$defs"][candidate["$ref"].rpartition("/")[2]]
    properties: dict[str, Any] = section["properties"]
    return properties


def _default(path: str) -> str:
    value = LEAVES[path].shown_in(_DEFAULTS)
    return "" if value is None else yaml_value(value)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
