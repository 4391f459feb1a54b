"""The collector for prometheus_client: names, values, and what it does when there is nothing to read."""

from __future__ import annotations

import re

import pytest

from pycache import Busy, Cache, InvalidKey, error_counts

prometheus_client = pytest.importorskip("prometheus_client")

import pycache.prometheus  # noqa: E402
from pycache.prometheus import COUNTERS, GAUGES, Collector, _printable  # noqa: E402
from test_package import examples, passes  # noqa: E402


def scraped(cache: Cache, **options: str) -> dict[str, float]:
    """Every sample of a scrape as Prometheus reads it, with its labels."""
    from prometheus_client.parser import text_string_to_metric_families

    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector(cache, **options))
    text = prometheus_client.generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value for sample in samples}


def test_the_numbers_are_those_of_the_region(cache: Cache) -> None:
    cache.update({"secret key": 1, "b": 2})
    cache.get("secret key"), cache.get("missing"), cache.delete("b")
    found, stats = scraped(cache), cache.stats()
    for field, (name, _) in COUNTERS.items():
        assert found[f"cache_shm_{name}_total[test]"] == stats[field], field
    for field, (name, _) in GAUGES.items():
        assert found[f"cache_shm_{name}[test]"] == stats[field], field
    assert found["cache_shm_hits_total[test]"] == 1 and found["cache_shm_deletes_total[test]"] == 1
    assert found["cache_shm_up[test]"] == 1
    assert not [name for name in found if "secret" in name], "keys are nobody's business"


def test_the_names_keep_to_the_conventions(cache: Cache) -> None:
    names = [name.split("[")[0] for name in scraped(cache)]
    assert len(names) > 20 and all(re.fullmatch("cache_shm_[a-z]+(_[a-z]+)*", name) for name in names)
    counters = {f"cache_shm_{name}_total" for name, _ in COUNTERS.values()}
    assert {name for name in names if name.endswith("_total")} - {"cache_shm_errors_total"} == counters


def test_every_number_of_a_region_has_a_metric_or_a_reason(cache: Cache) -> None:
    # The queues, and what does not change, say nothing that an alarm could use.
    left_out = {"small_bytes", "main_bytes", "fixed_bytes", "segment_bytes", "segments", "stripes", "splits"}
    assert set(COUNTERS) | set(GAUGES) | left_out >= {name for name, value in cache.stats().items() if isinstance(value, int)}


def test_a_cache_that_cannot_be_read_is_down_and_fails_no_scrape(cache: Cache) -> None:
    cache.close()
    found = scraped(cache, region="mine")
    assert found["cache_shm_up[mine]"] == 0
    assert not [name for name in found if name.startswith("cache_shm_hits")]


def test_namespaces_whose_names_are_no_text_stay_two() -> None:
    names = [b"\xff\xfe", b"\xff\xfd", b"\\xff\n\xc2\x85", "ä".encode()]
    assert {_printable(name.decode("utf-8", "surrogateescape")) for name in names} == {r"\xff\xfe", r"\xff\xfd", r"\\xff\x0a\xc2\x85", "ä"}


def test_errors_are_counted_by_their_code(cache: Cache) -> None:
    before = error_counts()
    for _ in range(3):
        with pytest.raises(InvalidKey):
            cache[""] = 1
    assert error_counts()["key_empty"] == before.get("key_empty", 0) + 3
    assert error_counts().get("busy", 0) == before.get("busy", 0) and issubclass(Busy, TimeoutError)
    assert scraped(cache)["cache_shm_errors_total[key_empty]"] == error_counts()["key_empty"]


def test_a_read_only_handle_will_do(cache: Cache, directory: str) -> None:
    cache["a"] = 1
    assert scraped(Cache("test", dir=directory, read_only=True))["cache_shm_sets_total[test]"] == 1


def test_the_example_is_true(directory: str) -> None:
    passes(examples(pycache.prometheus.__doc__, "prometheus", {"Cache": Cache, "Collector": Collector, "directory": directory}))
