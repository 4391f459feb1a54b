"""The request stream of the demo: a trace file, or a generated one.

A trace has one request a line, `KEY` or `KEY SIZE` (the size is not used here), plain or
compressed with gzip or zstd; which one is seen from its first bytes.
"""

import gzip
import io
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

SEED = 20261122

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def from_trace(path: Path, requests_max: int) -> list[str]:
    """The keys of the first `requests_max` requests of a trace."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(GZIP_MAGIC):
            lines = gzip.open(file)
        elif magic.startswith(ZSTD_MAGIC):
            lines = open_zstd(file)
        else:
            lines = file
        fields = (line.split() for line in lines)
        keys = (found[0].decode("utf-8", "backslashreplace") for found in fields if found)
        return list(itertools.islice(keys, requests_max))


def open_zstd(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """Reads zstd with what this Python has: its own module (3.14), or `zstandard`."""
    try:
        from compression import zstd
    except ImportError:
        try:
            import zstandard
        except ImportError:
            raise SystemExit(
                "this trace is compressed with zstd: pip install -r examples/demo/requirements.txt, "
                "or decompress it with `zstd -d`"
            ) from None
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(reader)
    return zstd.open(file)


def generated(requests: int, keys: int = 20_000, seed: int = SEED) -> list[str]:
    """A stream like that of a shop, the same for the same seed.

    - Most requests (85 in 100) are for products, their popularity a Zipf law with
      exponent 0.9 over `keys` products.
    - Popularity drifts: twenty times in the stream, the places of 5 products in 100
      are given to others.
    - 15 requests in 100 belong to scans: something walks over 500 products in order, as a
      crawler or a report does, and most of what it touches is not wanted again soon.
    """
    return list(itertools.islice(_shop(requests, keys, random.Random(seed)), requests))


def _shop(requests: int, keys: int, dice: random.Random) -> Iterator[str]:
    weights = list(itertools.accumulate(rank**-0.9 for rank in range(1, keys + 1)))
    product_at = list(range(keys))
    dice.shuffle(product_at)
    drift_every = max(1, requests // 20)
    scan_count, scan_share = 500, 0.15
    next_drift = drift_every
    served = 0
    while True:
        if dice.random() < scan_share / scan_count / (1 - scan_share):
            start = dice.randrange(keys)
            for offset in range(scan_count):
                yield f"product:{(start + offset) % keys}"
            served += scan_count
        rank = dice.choices(range(keys), cum_weights=weights)[0]
        yield f"product:{product_at[rank]}"
        served += 1
        if served >= next_drift:
            next_drift += drift_every
            for _ in range(keys // 20):
                here, there = dice.randrange(keys), dice.randrange(keys)
                product_at[here], product_at[there] = product_at[there], product_at[here]
