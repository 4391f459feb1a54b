"""Arrow tables and record batches: stored as streams, read back as they were, lent without a copy."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
from typing import Any

import pytest
from test_views import lies_in, pins

from pycache import BadEncoding, Cache, InvalidArgument, UnsupportedType, ValueTooLarge
from pycache._pycache import decode, encode

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

ARROW, ARROW_BATCH = 10, 11
LARGE = 100_000


def table(count: int = LARGE) -> Any:
    numbers = list(range(count))
    columns = {
        "number": pyarrow.array(numbers, pyarrow.int64()),
        "text": pyarrow.array([str(n) if n % 7 else None for n in numbers]),
        "list": pyarrow.array([[n] * (n % 3) for n in numbers]),
        "word": pyarrow.array(["a" if n % 2 else "b" for n in numbers]).dictionary_encode(),
    }
    return pyarrow.table(columns).replace_schema_metadata({"made": "here"})


def addresses(found: Any) -> list[int]:
    columns = [chunk for column in found.columns for chunk in getattr(column, "chunks", [column])]
    return [buffer.address for column in columns for buffer in column.buffers() if buffer is not None and buffer.size]


@pytest.mark.parametrize("count", [0, 1, 100, LARGE])
def test_a_table_comes_back_as_it_was(cache: Cache, directory: str, count: int) -> None:
    stored = table(count)
    big = Cache("tables", size="64MB", dir=directory)
    big["table"] = stored
    for found in (big["table"], big.arrow("table"), big.borrow("table"), big.get_many(["table"])["table"]):
        assert type(found) is pyarrow.Table and found.equals(stored, check_metadata=True)
    batch = stored.slice(0, min(count, 1000)).combine_chunks().to_batches()
    for stored_batch in batch:
        big["batch"] = stored_batch
        for found in (big["batch"], big.arrow("batch"), big.borrow("batch")):
            assert type(found) is pyarrow.RecordBatch and found.equals(stored_batch, check_metadata=True)


def test_chunks_and_empty_batches_are_kept(cache: Cache) -> None:
    chunked = pyarrow.concat_tables([table(10), table(5)], promote_options="none")
    cache["chunked"] = chunked
    assert cache["chunked"].column("number").num_chunks == 2 and cache["chunked"].equals(chunked)
    batch = pyarrow.RecordBatch.from_pydict({"number": pyarrow.array([], pyarrow.int64())})
    cache["empty"] = batch
    assert cache.arrow("empty").equals(batch) and type(cache["empty"]) is pyarrow.RecordBatch


def test_arrow_lends_the_columns_where_they_lie(directory: str) -> None:
    cache = Cache("tables", size="64MB", dir=directory)
    cache["table"] = table()
    assert cache.path is not None
    found = cache.arrow("table")
    assert all(lies_in(cache.path, address) for address in addresses(found)) and addresses(found)
    assert not any(lies_in(cache.path, address) for address in addresses(cache["table"]))
    assert pins(cache) == 1
    column = found.column("number").slice(10, 5)
    del found
    gc.collect()
    cache.clear()
    cache["table"] = "another"
    assert pins(cache) == 1 and column.to_pylist() == [10, 11, 12, 13, 14]
    del column
    gc.collect()
    assert pins(cache) == 0


def test_tables_go_by_their_own_kind_whatever_the_serializer(directory: str) -> None:
    plain = Cache("tables", size="8MB", dir=directory)
    for serializer in ("pickle", "json"):
        Cache("tables", dir=directory, serializer=serializer)["table"] = table(10)
        assert plain["table"].equals(table(10))


def test_compressed_and_signed_tables_are_read_by_get(directory: str) -> None:
    cache = Cache("tables", size="64MB", dir=directory, compress="zlib", secret=b"sixteen bytes or more")
    cache["table"] = table()
    assert cache["table"].equals(table())
    with pytest.raises(InvalidArgument, match="arrow"):
        cache.arrow("table")


def test_what_is_no_table_has_no_arrow(cache: Cache) -> None:
    assert cache.arrow("nothing") is None and cache.arrow("nothing", 5) == 5
    cache["text"] = "text"
    with pytest.raises(UnsupportedType, match="str"):
        cache.arrow("text")
    assert pins(cache) == 0


def test_a_table_that_does_not_fit_says_so(cache: Cache) -> None:
    with pytest.raises(ValueTooLarge):
        cache["table"] = table()
    assert "table" not in cache
    assert cache.set_many({"table": table(), "small": table(1)}) == ["table"]
    assert cache["small"].equals(table(1))


def test_other_objects_of_pyarrow_are_refused(cache: Cache) -> None:
    for value in (table(1).schema, table(1).column("number"), pyarrow.scalar(1)):
        with pytest.raises(UnsupportedType):
            cache["value"] = value


def stream(count: int) -> bytes:
    return encode(table(count))[1]


@pytest.mark.parametrize("kind", [ARROW, ARROW_BATCH])
@pytest.mark.parametrize("data", [b"", b"x", bytes(1000), stream(100)[:-2000], b"\xff" * 64 + stream(3)])
def test_bytes_that_are_no_stream_are_an_error(kind: int, data: bytes) -> None:
    with pytest.raises(BadEncoding, match="Arrow"):
        decode(kind, data)


def test_a_batch_is_one_batch() -> None:
    chunked = pyarrow.concat_tables([table(10), table(5)], promote_options="none")
    assert decode(ARROW, encode(chunked)[1]).num_rows == 15
    with pytest.raises(BadEncoding):
        decode(ARROW_BATCH, encode(chunked)[1])


def test_offsets_that_lead_out_of_the_bytes_are_an_error() -> None:
    """A table whose offsets were changed was read without a check, and using its texts read elsewhere."""
    texts = pyarrow.table({"text": pyarrow.array(["one", "two", "three"])})
    data = bytearray(encode(texts)[1])
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 3, 6, 11))
    at = data.index(offsets)
    data[at + 4 : at + 8] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(BadEncoding):
        decode(ARROW, bytes(data))


def test_storing_a_dict_does_not_import_pyarrow(directory: str) -> None:
    script = f"""
import sys
from pycache import Cache
cache = Cache("lazy", size="4MB", dir={directory!r})
cache["a"] = {{"b": 1}}
try:
    cache["a"] = object()
except TypeError:
    pass
assert "pyarrow" not in sys.modules and "numpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def read(directory: str) -> None:
    assert Cache("tables", dir=directory).arrow("table").equals(table(1000))


def test_processes_share_a_table(directory: str) -> None:
    Cache("tables", size="8MB", dir=directory)["table"] = table(1000)
    process = multiprocessing.get_context("spawn").Process(target=read, args=(directory,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
