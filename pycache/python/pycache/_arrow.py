"""Arrow tables and record batches as IPC streams, and back. Imported with the first of them."""

from __future__ import annotations

from typing import Any

import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
import pyarrow.ipc  # type: ignore[import-not-found, import-untyped, unused-ignore]

ARROW, ARROW_BATCH = 10, 11

_KINDS = {pyarrow.Table: ARROW, pyarrow.RecordBatch: ARROW_BATCH}


def dump(value: Any) -> tuple[int, Any] | None:
    """Kind and buffer of a table or record batch; None for anything else, subclasses included."""
    kind = _KINDS.get(type(value))
    if kind is None:
        return None
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, value.schema) as writer:
        writer.write(value)
    return kind, sink.getvalue()


def over(stored: Any, kind: int) -> Any:
    """The table or batch that lies in ``stored``; None if there is none.

    Its offsets and indices are checked, so that no use of it leaves the bytes.
    """
    try:
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(stored)) as reader:
            if kind == ARROW:
                found = reader.read_all()
            else:
                found = reader.read_next_batch()
                if next(iter(reader), None) is not None:
                    return None
        found.validate(full=True)
        return found
    except MemoryError:
        raise
    except Exception:
        # Whatever the bytes are, the caller says which key they are under.
        return None
