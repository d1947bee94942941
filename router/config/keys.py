"""The index of all keys: the model's, those known beside it, and what a mistyped one may have meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from router.config.dialects import ACTIVE_APPS, RENAMED
from router.config.duration import format_duration
from router.config.kinds import Kind
from router.config.known import KNOWN, NEEDLESS
from router.config.model import RouterConfig
from router.config.section import Section

MBUS = "mbus"
"""The one older key that stands for several: see `dialects.parse_mbus`."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of the model that holds a value."""

    path: str
    field: FieldInfo
    kind: Kind
    attributes: tuple[str, ...]
    """Names of the Python attributes that lead to it, which differ from the keys for `pass`."""

    @property
    def is_plain_text(self) -> bool:
        """True if an environment variable or a secret's file holds the value itself and not YAML."""
        return self.kind.text and get_origin(self.field.annotation) is not list

    @property
    def may_be_empty(self) -> bool:
        """True if an empty environment variable is a value; for the others it is the same as none."""
        return self.field.annotation in (str, SecretStr)

    def shown_in(self, config: RouterConfig, *, secrets: bool = True) -> Any:
        """The value `config` has, as a file would write it; secrets are masked. None inside a null section.

        Without `secrets` the keys that hold one are left out of a list's items.
        """
        value: Any = config
        for name in self.attributes:
            value = None if value is None else getattr(value, name)
        if isinstance(value, SecretStr):
            return "***" if value.get_secret_value() else ""
        if isinstance(value, list):
            return [
                item.model_dump(mode="json", by_alias=True, exclude=None if secrets else _secrets_of(item))
                if isinstance(item, Section)
                else item
                for item in value
            ]
        return format_duration(value) if self.kind.duration and value is not None else value


def _plain(item: Any) -> Any:
    return item.model_dump(mode="json", by_alias=True) if isinstance(item, Section) else item


@dataclass(frozen=True, slots=True)
class Branch:
    """One key of the model that has keys below it."""

    path: str
    section: type[Section]


def _secrets_of(section: Section) -> set[str]:
    return {name for name in type(section).model_fields if isinstance(getattr(section, name), SecretStr)}


def _section_in(annotation: Any) -> type[Section] | None:
    """The section class an annotation stands for: itself, or what it is next to None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _kind_in(metadata: Sequence[object]) -> Kind:
    return next((item for item in metadata if isinstance(item, Kind)), Kind("another value"))


def _kind_of(field: FieldInfo) -> Kind:
    """Of the value, also where it may be None instead."""
    either = [item for part in get_args(field.annotation) for item in getattr(part, "__metadata__", ())]
    return _kind_in([*field.metadata, *either])


def _walk(model: type[Section], prefix: str, attributes: tuple[str, ...]) -> Iterator[Leaf | Branch]:
    for name, field in model.model_fields.items():
        path, names = prefix + (field.alias or name), (*attributes, name)
        section = None if get_origin(field.annotation) is list else _section_in(field.annotation)
        if section is None:
            yield Leaf(path, field, _kind_in(field.metadata), names)
        else:
            yield Branch(path, section)
            yield from _walk(section, path + ".", names)


_ALL = tuple(_walk(RouterConfig, "", ()))
LEAVES: dict[str, Leaf] = {item.path: item for item in _ALL if isinstance(item, Leaf)}
NAMES: frozenset[str] = frozenset({MBUS, *ACTIVE_APPS, *LEAVES, *RENAMED, *KNOWN, *NEEDLESS})
"""Every key that may be written."""
BRANCHES: dict[str, Branch] = {item.path: item for item in _ALL if isinstance(item, Branch)}
SECTIONS: frozenset[str] = frozenset(name[:i] for name in NAMES for i, letter in enumerate(name) if letter == ".")
"""Every key that has keys below it, those of the model and others."""


def kind_at(path: Sequence[str | int], model: type[Section] = RouterConfig) -> tuple[Kind, tuple[str, ...]]:
    """What belongs at `path`, which may lead into a list, and the keys of the mapping around it."""
    annotation: Any = model
    kind = _kind_in(())
    siblings: tuple[str, ...] = ()
    for step in path:
        if isinstance(step, int):
            if get_origin(annotation) is not list:
                break
            (annotation,) = get_args(annotation)
            if get_origin(annotation) is Annotated:
                kind, annotation = _kind_in(annotation.__metadata__), annotation.__origin__
            continue
        section = _section_in(annotation)
        if section is None:  # a mapping of the user's own keys
            break
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        siblings = tuple(fields)
        if step not in fields:
            break
        kind, annotation = _kind_of(fields[step]), fields[step].annotation
    return kind, siblings


def public_view(config: RouterConfig) -> dict[str, Any]:
    """The configuration in effect as mappings and lists, without its secrets: their keys are left out."""
    found: dict[str, Any] = {}
    for path, leaf in LEAVES.items():
        if leaf.kind.secret:
            continue
        *sections, name = path.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = leaf.shown_in(config, secrets=False)
    if config.nats is None:
        found["nats"] = None
    return found


def suggest(path: str) -> str:
    """A hint for an unknown key: where the same name is a key, or the most similar one, its level first."""
    parent, _, name = path.rpartition(".")
    elsewhere = sorted(known for known in LEAVES if known.rpartition(".")[2] == name)
    if elsewhere:
        return "did you mean " + " or ".join(f"`{known}`" for known in elsewhere) + "?"
    prefix = f"{parent}." if parent else ""
    level = {known[len(prefix) :].partition(".")[0] for known in NAMES | SECTIONS if known.startswith(prefix)}
    anywhere = {known.rpartition(".")[2]: known for known in sorted(NAMES)}
    return nearest(name, {key: prefix + key for key in level}) or nearest(name, anywhere)


def nearest(name: str, names: Mapping[str, str]) -> str:
    """`did you mean ...?` with the full name of the one most like `name`; empty when none is."""
    found = get_close_matches(name.lower(), sorted(names), n=1, cutoff=0.6)
    return f"did you mean `{names[found[0]]}`?" if found else ""
