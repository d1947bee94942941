"""One copy in memory of what many endpoints, or many fields of one, have in common: names, ids, tags.

An id stands in a registration up to four times, the tags of an app's instances are nearly the same, and decoders make
a new object of each. With a million endpoints this is most of the table.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import msgspec

from router.messages import EndpointSpec, RouteOptions

_MOST_PAIRS = 100_000
_pairs: dict[tuple[str, str], tuple[str, str]] = {}
_share = sys.intern


def interned(spec: EndpointSpec) -> EndpointSpec:
    """The same registration, made of shared objects."""
    return msgspec.structs.replace(
        spec,
        host=_share(spec.host),
        protocol=_share(spec.protocol),
        app=_share(spec.app),
        instance_id=_share(spec.instance_id),
        instance_index=_share(spec.instance_index),
        server_cert_domain_san=_share(spec.server_cert_domain_san),
        isolation_segment=_share(spec.isolation_segment),
        availability_zone=_share(spec.availability_zone),
        route_service_url=_share(spec.route_service_url),
        options=spec.options and _one_of(spec.options),
        tags=spec.tags and tuple([_pair(_share(name), _share(value)) for name, value in spec.tags]),
    )


@lru_cache(maxsize=1024)
def _one_of(options: RouteOptions) -> RouteOptions:
    return options


def _pair(name: str, value: str) -> tuple[str, str]:
    if len(_pairs) >= _MOST_PAIRS:
        _pairs.clear()  # those in use live on, later ones are only not the same
    pair = name, value
    return _pairs.setdefault(pair, pair)
