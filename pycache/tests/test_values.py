"""Values: what comes back is what was stored, and nothing else is stored."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import math
import pickle
import random
import struct
import sys
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycache import BadEncoding, BadSignature, Cache, CacheError, NestedTooDeep, UnsupportedType, ValueTooLarge, WrongSerializer
from pycache._pycache import decode, encode

BYTES, INT, STR, FLOAT, NONE, FALSE, TRUE, TAGGED, BYTEARRAY, PICKLE = 0, 1, 2, 3, 4, 5, 6, 7, 8, 16
KINDS = [BYTES, INT, STR, FLOAT, NONE, FALSE, TRUE, TAGGED, BYTEARRAY]


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, and with the same signs of zero and nan."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, decimal.Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(map(same, left.items(), right.items()))
    if isinstance(left, (datetime.datetime, datetime.time)):
        return left.isoformat() == right.isoformat() and left.fold == right.fold and repr(left) == repr(right)
    return bool(left == right)


ZONES = [
    datetime.timezone.utc,
    datetime.timezone(datetime.timedelta(hours=-5)),
    datetime.timezone(datetime.timedelta(hours=5, minutes=45, microseconds=1)),
    datetime.timezone(datetime.timedelta(hours=1), "Würzburg"),
    zoneinfo.ZoneInfo("Europe/Berlin"),
    zoneinfo.ZoneInfo("UTC"),
]
EXAMPLES: list[Any] = [
    b"",
    b"x",
    b"\0" * 1000,
    "",
    "a",
    "é",
    "ab",
    "a" * 300,
    "ä" * 300,
    "\U0001f600x",
    "\ud800",
    "lone \udfff surrogate",
    *(sign * number + step for number in (0, 24, 256, 2**16, 2**32, 2**63, 2**64, 10**30, 2**4000)
      for sign in (1, -1) for step in (-1, 0, 1)),
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    None,
    True,
    False,
    bytearray(),
    bytearray(b"mutable"),
    [],
    (),
    {},
    set(),
    frozenset(),
    [1, "a", b"b", None, True, 2.5, [(1,), {2: 3}], bytearray(b"c")],
    {"a": {"b": [1, 2, {3}]}, (1, 2): frozenset([1]), None: {}, b"k": 1.0, 1: "one"},
    {1, "a", b"b", None, (1, 2), frozenset([3])},
    datetime.datetime.min,
    datetime.datetime.max,
    datetime.datetime(2026, 10, 25, 2, 30, 0, 123456, fold=1),
    *(datetime.datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=1) for zone in ZONES),
    *(datetime.time(2, 30, 1, 5, tzinfo=zone) for zone in ZONES),
    datetime.date.min,
    datetime.date.max,
    datetime.time.max,
    datetime.timedelta.min,
    datetime.timedelta.max,
    datetime.timedelta(-1, 5, 7),
    *map(decimal.Decimal, ["0", "-0", "1.10", "-0E-7", "1E+999999", "NaN", "-NaN12", "sNaN", "Infinity", "-Infinity"]),
    uuid.UUID(int=0),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: f"{type(value).__name__}-{ascii(value)[:30]}")
def test_a_value_comes_back_with_its_type(cache: Cache, value: Any) -> None:
    cache["key"] = value
    assert same(cache["key"], value)
    assert same(cache.get("key"), value)
    assert same(cache.get_many(["key"])["key"], value)
    assert same(cache.pop("key"), value)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=40)
    | st.text(st.characters(), max_size=40)
    | st.builds(bytearray, st.binary(max_size=10))
    | st.datetimes(timezones=st.none() | st.sampled_from(ZONES))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
)
hashable_leaves = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=10) | st.binary(max_size=10) | st.uuids()
)
hashables = st.recursive(hashable_leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(hashables, inner, max_size=5)
        | st.sets(hashables, max_size=5)
        | st.frozensets(hashables, max_size=5)
    ),
    max_leaves=20,
)


@given(values)
def test_every_value_survives_its_encoding(value: Any) -> None:
    kind, data = encode(value)
    assert kind in KINDS
    assert same(decode(kind, data), value)


@given(values)
def test_an_encoding_that_is_cut_short_is_an_error(value: Any) -> None:
    kind, data = encode([value])
    for length in range(len(data)):
        with pytest.raises(BadEncoding):
            decode(kind, data[:length])
    with pytest.raises(BadEncoding, match="bytes after its end"):
        decode(kind, data + b"\0")


@given(st.sampled_from(KINDS) | st.integers(0, 255), st.binary(max_size=100))
def test_any_bytes_decode_to_a_value_or_to_a_clear_error(kind: int, data: bytes) -> None:
    try:
        value = decode(kind, data)
    except BadEncoding as error:
        assert str(kind) in str(error)
    except (WrongSerializer, BadSignature):
        assert kind >= PICKLE
    else:
        encode(value)


def test_damaged_encodings_never_do_worse_than_an_error() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    originals = [encode([value])[1] for value in EXAMPLES if sys.getsizeof(value) < 500]
    damaged = 0
    for _ in range(100_000):
        data = bytearray(dice.choice(originals))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            decode(TAGGED, bytes(data))
        except BadEncoding:
            damaged += 1
    assert damaged > 1000


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (INT, b"1234567", "8 bytes"),
        (FLOAT, b"", "8 bytes"),
        (STR, b"\xff", "not UTF-8"),
        (STR, b"\xed\xa0\x80", "not UTF-8"),
        (NONE, b"x", "none belong"),
        (12, b"", "unknown kind"),
        (255, b"", "unknown kind"),
        (TAGGED, b"", "too early"),
        (TAGGED, b"\x9f\xff", "indefinite"),
        (TAGGED, b"\x1c", "reserved"),
        (TAGGED, b"\xf7", "simple value"),
        (TAGGED, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "beyond its end"),
        (TAGGED, b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "beyond its end"),
        (TAGGED, b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "too early"),
        (TAGGED, b"\x81" * 65 + b"\x80", "too deep"),
        (TAGGED, b"\xd9\x01\x02\x81\x80", "no set can hold"),
        (TAGGED, b"\xa1\x80\x01", "cannot be one"),
        (TAGGED, b"\xd8\x25\x41x", "UUID"),
        (TAGGED, b"\xd9\xca\x04\x63" + b"1_0", "decimal"),
        (TAGGED, b"\xd9\xca\x06\x44\x00\x00\x01\x01", "date"),
        (TAGGED, b"\xd9\xca\x05\x82\x4a\x07\xea\x01\x01\x00\x00\x00\x00\x00\x00\x66../etc", "time zone"),
        (TAGGED, b"\xd9\xca\x05\x82\x4a\x07\xea\x01\x01\x00\x00\x00\x00\x00\x00\x63Mit", "time zone"),
        (TAGGED, b"\xd9\xca\x05\x82\x4a\x07\xea\x01\x01\x00\x00\x00\x00\x00\x00\x1a\x7f\xff\xff\xff", "time zone"),
        (TAGGED, b"\xd9\xca\x08\x83\x1a\x7f\xff\xff\xff\x00\x00", "time span"),
        (TAGGED, b"\xd9\xff\xff\x00", "a tag"),
    ],
)
def test_foreign_bytes_are_named(kind: int, data: bytes, reason: str) -> None:
    with pytest.raises(BadEncoding, match=reason) as caught:
        decode(kind, data)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xf9\x3c\x00", 1.0),
        (b"\xf9\xc0\x00", -2.0),
        (b"\xf9\x00\x01", 2.0**-24),
        (b"\xf9\x7c\x00", math.inf),
        (b"\xfa\x40\x20\x00\x00", 2.5),
        (b"\x18\x01", 1),
        (b"\x1b\x00\x00\x00\x00\x00\x00\x00\x07", 7),
        (b"\xc2\x41\x05", 5),
        (b"\xc3\x41\x05", -6),
        (b"\x98\x01\x01", [1]),
    ],
)
def test_what_other_cbor_writers_may_choose_is_read(data: bytes, value: Any) -> None:
    assert same(decode(TAGGED, data), value)


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    pass


class Shade(str, enum.Enum):
    DARK = "dark"


class Price(decimal.Decimal):
    pass


class Moment(datetime.datetime):
    pass


class Anything:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anything)


Point = collections.namedtuple("Point", "x y")

REFUSED: list[Any] = [
    Colour.RED,
    Name("safe"),
    Shade.DARK,
    Point(1, 2),
    collections.OrderedDict(a=1),
    collections.defaultdict(int),
    collections.Counter("aab"),
    Price("1.5"),
    Moment(2026, 1, 1),
    1j,
    range(3),
    Anything(),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": (v,)}], ids=["alone", "in-list", "in-dict"])
def test_a_subclass_or_foreign_type_is_refused_and_never_flattened(cache: Cache, value: Any, wrap: Any) -> None:
    cache["key"] = "before"
    with pytest.raises(UnsupportedType, match='serializer="pickle"') as caught:
        cache["key"] = wrap(value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, CacheError)
    assert type(value).__qualname__ in str(caught.value)
    assert cache["key"] == "before"


@pytest.mark.parametrize("value", [lambda: 0, object, sys, (x for x in "a")], ids=["function", "type", "module", "generator"])
def test_what_has_no_value_is_refused(cache: Cache, value: Any) -> None:
    with pytest.raises(TypeError):
        cache["key"] = value


class Zone(datetime.tzinfo):
    pass


def test_a_datetime_in_a_zone_that_cannot_be_written_is_refused(cache: Cache) -> None:
    with pytest.raises(UnsupportedType, match="zoneinfo"):
        cache["key"] = datetime.datetime(2026, 1, 1, tzinfo=Zone())


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_sixty_four_levels_are_stored_and_one_more_is_an_error(cache: Cache) -> None:
    cache["deep"] = nested(64)
    assert cache["deep"] == nested(64)
    with pytest.raises(NestedTooDeep, match="64") as caught:
        cache["deep"] = nested(65)
    assert isinstance(caught.value, ValueError)
    assert cache["deep"] == nested(64)


def test_a_value_that_contains_itself_is_an_error(cache: Cache) -> None:
    chain: list[Any] = [1]
    chain.append(chain)
    table: dict[str, Any] = {}
    table["self"] = table
    for value in (chain, table):
        with pytest.raises(NestedTooDeep, match="contains itself"):
            cache["key"] = value


def test_a_value_that_multiplies_ends_at_the_size_limit(cache: Cache) -> None:
    value: list[Any] = [0] * 100
    for _ in range(60):
        value = [value, value]
    with pytest.raises(ValueTooLarge):
        cache["key"] = value


def test_a_value_over_the_limit_says_both_numbers(cache: Cache) -> None:
    cache["key"] = "before"
    with pytest.raises(ValueTooLarge, match=r"the value has 3000000 bytes, the most in this region is \d+") as caught:
        cache["key"] = bytes(3_000_000)
    assert isinstance(caught.value, ValueError)
    assert cache["key"] == "before"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 4095, 16 * 1024, 16 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 900_000])
def test_values_of_every_size_class_come_back(cache: Cache, size: int) -> None:
    blob = random.Random(size).randbytes(size)
    text = "aé"[size % 2] * size
    for value in (blob, bytearray(blob), "a" * size, text[: size // 2], [blob[:1000], size]):
        cache["key"] = value
        assert same(cache["key"], value)
        assert same(cache.get_many(["key"])["key"], value)


def test_each_get_gives_a_fresh_object(cache: Cache) -> None:
    cache["key"] = [1]
    first = cache["key"]
    first.append(2)
    assert cache["key"] == [1]


def test_a_cached_none_is_not_a_miss(cache: Cache) -> None:
    cache["key"] = None
    assert cache.get("key", "default") is None
    assert "key" in cache
    assert cache.get("other", "default") == "default"


def test_pickle_is_never_read_unless_asked_for(directory: str) -> None:
    trusting = Cache("p", size="2MB", dir=directory, serializer="pickle")
    careful = Cache("p", dir=directory)
    trusting["key"] = Anything()
    assert trusting["key"] == Anything()
    for read in (lambda: careful["key"], lambda: careful.get_many(["key"]), lambda: careful.pop("key", None)):
        with pytest.raises(WrongSerializer, match="pickle") as caught:
            read()
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_pickle_keeps_what_the_safe_types_cannot(directory: str, value: Any) -> None:
    cache = Cache("p", size="2MB", dir=directory, serializer="pickle")
    for stored in (value, [value], {"a": value}):
        cache["key"] = stored
        assert cache["key"] == stored
        assert type(cache["key"]) is type(stored)


def test_pickle_keeps_an_object_that_contains_itself(directory: str) -> None:
    cache = Cache("p", size="2MB", dir=directory, serializer="pickle")
    chain: list[Any] = []
    chain.append(chain)
    cache["key"] = chain
    found = cache["key"]
    assert found[0] is found


def test_safe_values_stay_readable_by_all_under_pickle(directory: str) -> None:
    trusting = Cache("p", size="2MB", dir=directory, serializer="pickle")
    careful = Cache("p", dir=directory)
    for value in (1, "a", b"b", [1, {"a": (None, 2.5)}], uuid.UUID(int=5)):
        trusting["key"] = value
        assert careful["key"] == value


def test_what_cannot_be_pickled_says_so(directory: str) -> None:
    cache = Cache("p", size="2MB", dir=directory, serializer="pickle")
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        cache["key"] = lambda: 0
    assert "key" not in cache
