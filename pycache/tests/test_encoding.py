"""The encoding is the one that docs/value-encoding.md describes."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pycache import Cache
from pycache._pycache import decode, encode

DOCUMENT = Path(__file__).parents[2] / "docs" / "value-encoding.md"
NAMES = {"date": date, "datetime": datetime, "time": time, "timedelta": timedelta, "timezone": timezone,
         "Decimal": Decimal, "UUID": UUID}
ROW = re.compile(r"^\| `([^`]+)` \| (\d+) \| (?:`([0-9a-f ]+)` )?\|$", re.MULTILINE)
TEXT = DOCUMENT.read_text()
VALUES, KEYS = (ROW.findall(part) for part in TEXT.split("## Forms of keys"))


def bytes_of(digits: str) -> bytes:
    return bytes.fromhex(digits)


def evaluate(expression: str) -> Any:
    return eval(expression, dict(NAMES))


@pytest.mark.parametrize(("expression", "kind", "digits"), VALUES)
def test_an_example_value_has_the_documented_bytes(expression: str, kind: str, digits: str) -> None:
    value = evaluate(expression)
    assert encode(value) == (int(kind), bytes_of(digits))
    found = decode(int(kind), bytes_of(digits))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("expression", "form", "digits"), KEYS)
def test_an_example_key_has_the_documented_bytes(cache: Cache, expression: str, form: str, digits: str) -> None:
    key = evaluate(expression)
    cache[key] = 1
    assert bytes_of(digits) in cache
    assert cache.pop(bytes_of(digits)) == 1
    assert key not in cache
    assert type(key) is [str, bytes, int, tuple][int(form)]


def test_the_document_has_examples() -> None:
    assert len(VALUES) >= 16 and len(KEYS) == 4
