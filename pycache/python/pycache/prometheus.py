"""Metrics of a cache for ``prometheus_client``, without a server of their own.

>>> from prometheus_client import CollectorRegistry, generate_latest
>>> cache = Cache("docs-prometheus", size="2MB", dir=directory)
>>> registry = CollectorRegistry()
>>> registry.register(Collector(cache))
>>> cache["a"] = 1
>>> [line for line in generate_latest(registry).decode().splitlines() if "sets_total{" in line]
['cache_shm_sets_total{region="docs-prometheus"} 1.0']
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unicodedata import category

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as BaseCollector

from . import CacheError, error_counts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from . import Cache

__all__ = ["Collector"]

# What a field of `stats` is called, and what it says. Counters get the suffix ``_total``.
COUNTERS = {
    "hits": ("hits", "Reads that found their key."),
    "misses": ("misses", "Reads that did not find their key."),
    "sets": ("sets", "Values stored, by whatever operation."),
    "deletes": ("deletes", "Keys removed on request."),
    "evictions": ("evictions", "Unexpired items dropped to make room."),
    "expirations": ("expirations", "Items dropped because they had expired or were cleared."),
    "ghost_hits": ("ghost_hits", "Values stored in the main queue because their key was dropped recently."),
    "set_bytes": ("stored_bytes", "Bytes of items stored, headers and keys included."),
    "relocated_bytes": ("relocated_bytes", "Bytes of items copied on by reclaim."),
    "busy": ("busy", "Attempts that found a lock held until their time was up."),
    "full": ("full", "Calls that found no room."),
    "take_overs": ("take_overs", "Locks taken over from dead processes."),
    "retries": ("read_retries", "Reads that were overtaken by a writer and began again."),
}
GAUGES = {
    "items": ("items", "Items in the index."),
    "live_bytes": ("live_bytes", "Bytes of items in the index, headers and keys included."),
    "dead_bytes": ("dead_bytes", "Bytes that are dead and not yet reclaimed."),
    "free_bytes": ("free_bytes", "Bytes of free segments."),
    "index_bytes": ("index_bytes", "Bytes of the index."),
    "condemned_bytes": ("condemned_bytes", "Bytes that wait for a pin to go."),
    "region_bytes": ("region_bytes", "Bytes of the region."),
    "participants": ("participants", "Processes attached for writing."),
    "participants_max": ("participants_max", "Processes that can be attached for writing at once."),
    "pins": ("pins", "Pins held by views and reads."),
    "evicted_age_ms": ("evicted_age_seconds", "About how long a value that nobody reads stays, at the last eviction."),
}


def _printable(name: str) -> str:
    """A name on one line, as the server writes it: what is no text as ``\\xNN``, so that two names stay two."""

    def shown(character: str) -> str:
        if character == "\\":
            return "\\\\"
        if category(character) not in ("Cc", "Cs"):
            return character
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))

    return "".join(map(shown, name))


class Collector(BaseCollector):
    """The numbers of one cache, read when they are asked for.

    They are those of the region and, with the label ``namespace``, of each of its namespaces (a byte of a name
    that is no printable text as ``\\xNN``), whichever process counted: with several processes, scrape one, or
    take the greatest. The exception is ``cache_shm_errors_total``, by ``code``, which tells what this
    process raised, on all its caches. No key is ever a label.

    Args:
        cache: An open cache; a read-only handle will do, one of a namespace is a ValueError. While
            it cannot be read, closed for example, ``cache_shm_up`` is 0 and the rest is missing.
        region: The label ``region`` of every metric, instead of the cache's name.

    Register it with ``prometheus_client.REGISTRY.register(Collector(cache))``.
    """

    def __init__(self, cache: Cache[Any, Any], region: str | None = None) -> None:
        if cache.namespace_name is not None:
            raise ValueError("a collector is of a whole region, and tells the numbers of its namespaces by their names")
        self._cache = cache
        self._region = region if region is not None else (cache.name or "private")

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks for no numbers."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its value now. Does not raise for what is wrong with the region."""
        try:
            stats, spaces = self._cache.stats(), self._cache.namespaces()
        except CacheError:
            stats, spaces = {}, {}
        up = GaugeMetricFamily("cache_shm_up", "1 if the region can be read.", labels=["region"])
        up.add_metric([self._region], float(bool(stats)))
        yield up
        kinds: list[tuple[Any, dict[str, tuple[str, str]]]] = [(CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)]
        for family, fields in kinds:
            for field, (name, text) in fields.items():
                if field in stats:
                    metric = family(f"cache_shm_{name}", text, labels=["region"])
                    metric.add_metric([self._region], stats[field] / (1000.0 if field.endswith("_ms") else 1.0))
                    yield metric
        for field in spaces[next(iter(spaces))] if spaces else ():
            name, text = COUNTERS[field]
            metric = CounterMetricFamily(f"cache_shm_namespace_{name}", text, labels=["region", "namespace"])
            for namespace, counts in spaces.items():
                metric.add_metric([self._region, _printable(namespace)], float(counts[field]))
            yield metric
        errors = CounterMetricFamily("cache_shm_errors", "Errors that this process raised, on all its caches.", labels=["code"])
        for code, count in error_counts().items():
            errors.add_metric([code], float(count))
        yield errors
