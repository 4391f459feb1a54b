"""Opening: who creates, who attaches, what is said about it, and what bad input gets."""

from __future__ import annotations

import grp
import logging
import math
import os
import random
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycache
from pycache import (
    Cache,
    CacheError,
    Closed,
    InvalidName,
    InvalidSize,
    NotRegion,
    ReadOnly,
    RegionGone,
    RegionMissing,
    RegionPermission,
    RegionSymlink,
    RegionTruncated,
    SizeMismatch,
    destroy,
    regions,
)
from pycache.testing import Clock


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2_097_152, 2 << 20), ("2097152", 2 << 20), ("2MiB", 2 << 20), ("2 MiB", 2 << 20), ("2mib", 2 << 20), ("1MiB", 1 << 20)],
)
def test_a_size_is_a_number_or_text(directory: str, size: Any, expected: int) -> None:
    assert Cache("sized", size=size, dir=directory).size == expected


def test_a_size_is_rounded_up_to_pages(directory: str) -> None:
    cache = Cache("sized", size="2MB", dir=directory)
    assert 2_000_000 <= cache.size < 2_000_000 + 4096


@pytest.mark.parametrize("size", ["", "MB", "12 apples", "-1", "1.5", "1e9", "0", 0, 1, 4096, -1, (1 << 20) - 4096, "100KB", 10**30, "10EB"])
def test_a_size_that_is_none_or_too_small_says_the_minimum(directory: str, size: Any) -> None:
    with pytest.raises(InvalidSize, match="1048576") as caught:
        Cache("sized", size=size, dir=directory)
    assert isinstance(caught.value, ValueError)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("size", [1.5e6, True, b"2MB", ["2MB"], object()])
def test_a_size_of_another_type_is_a_type_error(directory: str, size: Any) -> None:
    with pytest.raises(TypeError, match="size"):
        Cache("sized", size=size, dir=directory)


def test_without_a_size_the_default_is_taken_and_logged_once(directory: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pycache"):
        cache = Cache("unsized", dir=directory)
        again = Cache("unsized", dir=directory)
    free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
    assert cache.size == again.size
    assert cache.size == 256 << 20 or cache.size <= free
    records = [record for record in caplog.records if record.name == "pycache.region"]
    assert len(records) == 1
    assert "unsized" in records[0].getMessage() and str(cache.size) in records[0].getMessage()


def test_another_size_attaches_with_one_warning(directory: str) -> None:
    first = Cache("sized", size="2MiB", dir=directory)
    first["a"] = 1
    with pytest.warns(UserWarning, match="4194304") as caught:
        second = Cache("sized", size="4MiB", dir=directory)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(2 << 20) in str(caught[0].message)
    assert second.size == 2 << 20 and second["a"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cache("sized", size="2MiB", dir=directory)["a"] == 1
        assert Cache("sized", dir=directory)["a"] == 1


def test_another_size_is_an_error_on_request(directory: str) -> None:
    first = Cache("sized", size="2MiB", dir=directory)
    first["a"] = 1
    with pytest.raises(SizeMismatch, match="2097152.*4194304|4194304.*2097152") as caught:
        Cache("sized", size="4MiB", dir=directory, on_mismatch="error")
    assert isinstance(caught.value, ValueError)
    assert Cache("sized", size="2MiB", dir=directory, on_mismatch="error")["a"] == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/../b", "a/./b", ".hidden", "new\nline", "nul\0", "\x7f", "dir/", "x" * 300, "\x1b[31m"]
)
def test_a_name_that_cannot_be_one_is_an_error(directory: str, name: str) -> None:
    with pytest.raises(InvalidName, match="cannot name a region") as caught:
        Cache(name, size="2MB", dir=directory)
    assert isinstance(caught.value, ValueError)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", [5, b"bytes", ("a",), object()])
def test_a_name_of_another_type_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match="name"):
        Cache(name, size="2MB")


@pytest.mark.parametrize(
    "options",
    [
        {"on_mismatch": "ignore"},
        {"serializer": "yaml"},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"mode": 0o777},
        {"mode": 0o060},
        {"group": "no-such-group-here"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_a_value_error(directory: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Cache("options", size="2MB", dir=directory, **options)
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    "options",
    [{"timeout": None}, {"timeout": "1"}, {"timeout": True}, {"on_mismatch": 1}, {"serializer": 1}, {"mode": "600"}, {"group": 1.5},
     {"dir": 5}, {"evict": "no"}, {"unknown": 1}],
    ids=str,
)
def test_an_option_of_another_type_is_a_type_error(directory: str, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Cache("options", size="2MB", **({"dir": directory} | options))
    assert os.listdir(directory) == []


def test_a_region_is_private_to_its_user(cache: Cache) -> None:
    assert cache.path is not None
    assert stat.S_IMODE(os.stat(cache.path).st_mode) == 0o600


def test_a_region_is_shared_with_a_group_on_request(directory: str) -> None:
    os.chmod(directory, 0o2770)
    group = os.getegid()
    first = Cache("shared", size="2MB", mode=0o660, group=group, dir=directory)
    assert first.path is not None
    assert stat.S_IMODE(os.stat(first.path).st_mode) == 0o660
    first["a"] = 1
    assert Cache("shared", group=grp.getgrgid(group).gr_name, dir=directory)["a"] == 1


def test_a_directory_that_others_may_write_to_is_refused(directory: str) -> None:
    os.chmod(directory, 0o777)
    with pytest.raises(RegionPermission) as caught:
        Cache("open", size="2MB", dir=directory)
    assert isinstance(caught.value, PermissionError)
    assert directory in str(caught.value)


def test_a_region_that_others_may_read_is_refused(cache: Cache, directory: str) -> None:
    assert cache.path is not None
    cache.close()
    os.chmod(cache.path, 0o644)
    with pytest.raises(RegionPermission):
        Cache("test", dir=directory)


def test_a_symbolic_link_is_never_followed(cache: Cache, directory: str) -> None:
    assert cache.path is not None
    os.symlink(cache.path, Path(directory, "link"))
    for read_only in (False, True):
        with pytest.raises(RegionSymlink) as caught:
            Cache("link", dir=directory, read_only=read_only)
        assert isinstance(caught.value, PermissionError)


def test_the_directory_comes_from_the_environment(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_SHM_DIR", directory)
    cache = Cache("from-environment", size="2MB")
    assert cache.path == str(Path(directory, "from-environment"))
    assert [region.name for region in regions()] == ["from-environment"]
    cache.destroy()


def test_a_name_with_a_slash_is_a_path(directory: str) -> None:
    path = str(Path(directory, "by-path"))
    cache = Cache(path, size="2MB")
    cache["a"] = 1
    assert cache.path == path
    assert Cache("by-path", dir=directory)["a"] == 1
    assert Cache("by-path", dir=Path(directory))["a"] == 1


def test_regions_lists_what_is_there(directory: str) -> None:
    assert regions(directory) == []
    assert regions(Path(directory, "missing")) == []
    first = Cache("first", size="2MB", dir=directory)
    Cache("second", size="3MB", dir=directory)
    Path(directory, "a file").write_text("not a region")
    found = regions(directory)
    assert [region.name for region in found] == ["first", "second"]
    region = found[0]
    assert region.path == first.path and region.size == first.size and region.uid == os.getuid()
    assert region.mode == 0o600 and region.format_version == 1 and region.state == "ready"
    assert 0 < region.used <= region.size and region.created > 1.7e9
    first.destroy()
    assert [region.name for region in regions(directory)] == ["second"]


def test_destroy_removes_the_region_for_everyone(directory: str) -> None:
    first = Cache("gone", size="2MB", dir=directory)
    second = Cache("gone", dir=directory)
    first["a"] = 1
    first.destroy()
    assert os.listdir(directory) == []
    with pytest.raises(RegionGone) as caught:
        second["b"] = 2
    assert isinstance(caught.value, OSError)
    # Both handles start with a new region.
    second["b"] = 3
    assert second["b"] == 3 and "a" not in second
    try:
        first["c"] = 4
    except RegionGone:
        first["c"] = 4
    assert second["c"] == 4


def test_a_file_that_is_removed_from_outside_is_noticed_within_a_second(directory: str) -> None:
    """Processes that opened the name before and after would have used two regions, and not known it."""
    clock = Clock(directory)
    old = Cache("removed", size="2MB", dir=directory)
    reader = Cache("removed", dir=directory, read_only=True)
    old["a"] = 1
    os.unlink(os.path.join(directory, "removed"))
    new = Cache("removed", size="2MB", dir=directory)
    new["b"] = 2
    clock.advance(1)
    with pytest.raises(RegionGone):
        old["a"] = 2
    old["a"] = 3
    assert new["a"] == 3 and reader["b"] == 2 and old["b"] == 2


def test_an_ephemeral_region_goes_with_its_last_handle(directory: str) -> None:
    first = Cache("short", size="2MB", dir=directory, ephemeral=True)
    second = Cache("short", dir=directory)
    first["a"] = 1
    first.close()
    del first
    assert second["a"] == 1
    assert os.listdir(directory) == ["short"]
    second.close()
    del second
    assert os.listdir(directory) == []


def test_a_region_outlives_its_handles(directory: str) -> None:
    with Cache("kept", size="2MB", dir=directory) as cache:
        cache["a"] = 1
    del cache
    with Cache("kept", dir=directory) as cache:
        assert cache["a"] == 1


def test_closing_one_handle_leaves_the_others(cache: Cache, directory: str) -> None:
    other = Cache("test", dir=directory)
    other.close()
    other.close()
    assert other.closed and not cache.closed
    cache["a"] = 1
    assert cache["a"] == 1


def test_use_after_close_is_an_error_for_every_operation(cache: Cache) -> None:
    cache["a"] = 1
    iterator = iter(cache)
    cache.close()
    operations = [
        lambda: cache.get("a"),
        lambda: cache["a"],
        lambda: "a" in cache,
        lambda: len(cache),
        lambda: bool(cache),
        lambda: list(cache),
        lambda: list(cache.items()),
        lambda: next(iterator),
        lambda: cache.set("a", 1),
        lambda: cache.set("a", 1, ttl=5),
        lambda: cache.__delitem__("a"),
        lambda: cache.add("a", 1),
        lambda: cache.replace("a", 1),
        lambda: cache.delete("a"),
        lambda: cache.pop("a", None),
        lambda: cache.popitem(),
        lambda: cache.touch("a"),
        lambda: cache.ttl("a"),
        lambda: cache.incr("a"),
        lambda: cache.decr("a", default=0),
        lambda: cache.get_many(["a"]),
        lambda: cache.set_many({"a": 1}),
        lambda: cache.delete_many(["a"]),
        lambda: cache.get_or_set("a", 1),
        lambda: cache.setdefault("a", 1),
        lambda: cache.update(a=1),
        lambda: cache.clear(),
        lambda: cache.stats(),
        lambda: cache.size,
        lambda: cache.destroy(),
    ]
    for operation in operations:
        with pytest.raises(Closed, match="closed") as caught:
            operation()
        assert isinstance(caught.value, ValueError)
    assert cache.name == "test" and cache.path is not None and cache.closed


def test_a_read_only_handle_reads_and_never_writes(cache: Cache, directory: str) -> None:
    cache["a"] = [1]
    cache["large"] = bytes(600_000)
    cache["n"] = 1
    reader = Cache("test", dir=directory, read_only=True)
    assert reader.read_only and not cache.read_only
    assert reader["a"] == [1] and reader.get("b", 2) == 2 and "n" in reader and len(reader) == 3
    assert reader["large"] == bytes(600_000)
    assert reader.get_many(["a", "n"]) == {"a": [1], "n": 1}
    assert sorted(reader) == ["a", "large", "n"]
    assert reader.stats()["region_bytes"] == cache.size
    for write in (
        lambda: reader.set("a", 1),
        lambda: reader.add("b", 1),
        lambda: reader.replace("a", 1),
        lambda: reader.delete("a"),
        lambda: reader.pop("a"),
        lambda: reader.popitem(),
        lambda: reader.touch("a", 5),
        lambda: reader.incr("n"),
        lambda: reader.set_many({"a": 1}),
        lambda: reader.delete_many(["a"]),
        lambda: reader.setdefault("b", 1),
        lambda: reader.get_or_set("b", 1),
        lambda: reader.update(a=1),
        lambda: reader.clear(),
        lambda: reader.destroy(),
    ):
        with pytest.raises(ReadOnly, match="read-only") as caught:
            write()
        assert isinstance(caught.value, PermissionError)
    assert cache["a"] == [1] and cache["n"] == 1
    cache["a"] = 2
    assert reader["a"] == 2


def test_a_read_only_handle_makes_no_region(directory: str) -> None:
    with pytest.raises(RegionMissing, match="create it") as caught:
        Cache("missing", dir=directory, read_only=True)
    assert isinstance(caught.value, FileNotFoundError)
    assert os.listdir(directory) == []


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 8192, b"x" * 100_000])
def test_a_file_that_is_no_region_is_left_alone(directory: str, content: bytes) -> None:
    path = Path(directory, "file")
    path.write_bytes(content)
    path.chmod(0o600)
    for read_only in (True, False):
        try:
            Cache("file", size="2MB", dir=directory, read_only=read_only)
        except CacheError as error:
            assert isinstance(error, (NotRegion, pycache.RegionHalfMade, RegionMissing, RegionTruncated))
            assert "file" in str(error)
            assert path.read_bytes() == content
        else:
            assert not content.strip(b"\0"), "a file with content was replaced"


def test_a_directory_in_the_place_of_a_region_is_an_error(directory: str) -> None:
    Path(directory, "sub").mkdir()
    with pytest.raises(CacheError):
        Cache("sub", size="2MB", dir=directory)


def test_a_truncated_region_is_an_error_that_says_so(cache: Cache, directory: str) -> None:
    assert cache.path is not None
    cache.close()
    path = cache.path
    del cache
    os.truncate(path, 1_000_000)
    with pytest.raises(RegionTruncated, match="1000000") as caught:
        Cache("test", dir=directory)
    assert isinstance(caught.value, OSError)
    # What cannot be opened can be destroyed, and made anew.
    destroy("test", directory)
    assert Cache("test", size="2MB", dir=directory).size >= 2_000_000


def test_destroying_what_is_not_there_or_no_region_is_an_error(directory: str) -> None:
    with pytest.raises(RegionMissing):
        destroy("missing", directory)
    path = Path(directory, "file")
    path.write_text("precious")
    path.chmod(0o600)
    with pytest.raises(NotRegion):
        destroy("file", directory)
    assert path.read_text() == "precious"


def test_reading_a_damaged_region_is_never_worse_than_an_error(directory: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    cache = Cache("damaged", size="1MiB", dir=directory)
    for number in range(300):
        cache[f"key {number}"] = dice.choice([b"x" * dice.randrange(3000), number, [number, "a"], "text", None])
    assert cache.path is not None
    file = os.open(cache.path, os.O_RDWR | os.O_CLOEXEC)
    reads: list[Callable[[str], object]] = [
        cache.get,
        cache.__contains__,
        cache.ttl,
        lambda key: cache.get_many([key, "key 1", "key 2"]),
        lambda key: list(cache.items()),
        lambda key: (len(cache), bool(cache), cache.stats()),
    ]
    outcomes = set()
    for _ in range(2000):
        for _ in range(dice.randrange(1, 100)):
            word = dice.choice([dice.randrange(2**64), dice.randrange(2**20), 1 << dice.randrange(64), 0, 2**64 - 1])
            os.pwrite(file, word.to_bytes(8, "little"), dice.randrange(4096 // 8, cache.size // 8) * 8)
        try:
            dice.choice(reads)(f"key {dice.randrange(300)}")
        except (CacheError, KeyError) as error:
            outcomes.add(type(error).__name__)
    os.close(file)
    assert "KeyError" in outcomes


def test_a_private_cache_has_no_name_and_no_file() -> None:
    cache = Cache(None, size="2MB")
    cache["a"] = 1
    assert cache["a"] == 1
    assert cache.name is None and cache.path is None
    cache.close()


def test_every_error_of_the_table_is_a_class_with_two_bases() -> None:
    found = [error for error in vars(pycache).values() if isinstance(error, type) and issubclass(error, CacheError)]
    assert len(found) > 30
    for error in found:
        assert error.__module__ == "pycache" and error.__doc__
        if error is not CacheError:
            assert len(error.__mro__) > 3
            base = error.__mro__[2]
            assert base.__module__ == "builtins" and base is not Exception, error


def test_an_error_has_its_word_and_the_system_its_number(directory: str) -> None:
    with pytest.raises(RegionMissing) as caught:
        Cache("missing", dir=directory, read_only=True)
    assert caught.value.code == "missing"
    assert caught.value.errno == 2
    assert CacheError.code is None
