"""Native code of the package ``pycache``; import that instead."""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from datetime import datetime, timedelta
from os import PathLike
from types import GenericAlias, TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeAlias, final, overload, type_check_only

from typing_extensions import Self, TypeVar, disjoint_base

from ._memoize import CacheInfo
from ._views import LocalInfo, Reservation
from .leases import Lock, RateLimit, Semaphore

_Key = TypeVar("_Key", default=Any)
_Value = TypeVar("_Value", default=Any)
_Default = TypeVar("_Default")
_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_S = TypeVar("_S")
_K = TypeVar("_K")
_V_co = TypeVar("_V_co", covariant=True)
# One tag, or some.
_Tags: TypeAlias = str | bytes | Iterable[str | bytes]

class _KeysAndGetItem(Protocol[_K, _V_co]):
    def keys(self) -> Iterable[_K]: ...
    def __getitem__(self, key: _K, /) -> _V_co: ...

class _Serializer(Protocol):
    def dumps(self, value: Any, /) -> bytes: ...
    def loads(self, data: bytes, /) -> Any: ...

__all__ = [
    "BadEncoding",
    "BadSignature",
    "Bell",
    "BufferTooSmall",
    "Busy",
    "Cache",
    "CacheError",
    "Clock",
    "Closed",
    "EarlierBoot",
    "ForeignOwner",
    "FormatVersion",
    "IntegerOverflow",
    "InternalError",
    "InvalidArgument",
    "InvalidConfig",
    "InvalidKey",
    "InvalidKey",
    "InvalidLabel",
    "InvalidName",
    "InvalidSize",
    "Lease",
    "LeasesFull",
    "NamespacesFull",
    "NestedTooDeep",
    "NoSpace",
    "NotAppendable",
    "NotHolder",
    "NotInteger",
    "NotRegion",
    "ParticipantsFull",
    "PinsFull",
    "Probe",
    "Rate",
    "ReadOnly",
    "RegionCorrupt",
    "RegionExists",
    "RegionFull",
    "RegionGone",
    "RegionHalfMade",
    "RegionIOError",
    "RegionMissing",
    "RegionPermission",
    "RegionSymlink",
    "RegionTruncated",
    "SizeMismatch",
    "TooManyTags",
    "UnsupportedFilesystem",
    "UnsupportedType",
    "ValueTooLarge",
    "WrongSerializer",
    "__version__",
    "decode",
    "destroy",
    "encode",
    "error_counts",
    "regions",
    "thread_number",
]
__version__: str

@type_check_only
class _Helped(Generic[_P, _R_co]):
    """What a decorated function has besides being called."""

    @property
    def __wrapped__(self) -> Callable[_P, _R_co]: ...
    def bypass(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Calls the function itself."""

    def refresh(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Calls the function and stores what it returns."""

    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> str:
        """The key of that call; UnsupportedType if its arguments make none."""

    def cache_clear(self) -> None:
        """Removes every value of the function, for all processes."""

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this process."""

@type_check_only
class _Bound(_Helped[_P, _R_co], Generic[_P, _Q, _R_co]):
    """What a decorated method is to a type checker, seen by way of its object: it is called without
    ``self``, and its helpers with it.
    """

    def __call__(self, *args: _Q.args, **kwargs: _Q.kwargs) -> _R_co: ...

@type_check_only
class _Memoized(_Helped[_P, _R_co], Generic[_P, _R_co]):
    """What a decorated function is to a type checker; it is a function."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: _Memoized[Concatenate[_S, _Q], _R], instance: _S, owner: Any = None
    ) -> _Bound[Concatenate[_S, _Q], _Q, _R]: ...

@type_check_only
class _ClassMemoized(_Helped[Concatenate[type[_S], _Q], _R_co], Generic[_S, _Q, _R_co]):
    """A decorated classmethod, or a function whose first argument is a class."""

    def __call__(self, of: type[_S], /, *args: _Q.args, **kwargs: _Q.kwargs) -> _R_co: ...
    def __get__(self, instance: Any, owner: Any = None) -> _Bound[Concatenate[type[_S], _Q], _Q, _R_co]: ...

@type_check_only
class _Memoize(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[type[_S], _Q], _R], /) -> _ClassMemoized[_S, _Q, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> _Memoized[_P, _R]: ...

class CacheError(Exception):
    """Base of every error of the cache; ``code`` is its word in the table of errors."""

    code: str | None

class InvalidKey(CacheError, ValueError):
    """The key is empty or has more than 65,535 bytes."""

class ValueTooLarge(CacheError, ValueError):
    """The value has more bytes than a quarter of the region; the text says both numbers."""

class NotInteger(CacheError, TypeError):
    """``incr`` on a value that is neither an integer nor canonical decimal text."""

class NotAppendable(CacheError, TypeError):
    """``append`` to a value that is neither bytes nor text, or of bytes that are not UTF-8 to text."""

class LeasesFull(CacheError, OSError):
    """Every row that a lock, permit or rate limit of this name can have is in use."""

class InvalidLabel(CacheError, ValueError):
    """The name of a namespace has 1 to 64 bytes, and that of a tag 1 to 255."""

class NamespacesFull(CacheError, OSError):
    """The region has no room for another namespace; those that there are stay."""

class TooManyTags(CacheError, ValueError):
    """A value has 64 tags at most."""

class NotHolder(CacheError, RuntimeError):
    """A lock or permit is given back or extended by who does not hold it, or after its ttl."""

class IntegerOverflow(CacheError, OverflowError):
    """The result of ``incr`` does not fit 64 bits with sign; nothing was changed."""

class Busy(CacheError, TimeoutError):
    """Another process held what was needed until the timeout; try again."""

class RegionFull(CacheError, MemoryError):
    """A region that does not evict has no room; nothing was dropped."""

class NoSpace(CacheError, OSError):
    """The file system of the region is full."""

class ReadOnly(CacheError, PermissionError):
    """A write through a handle that was opened read-only."""

class Closed(CacheError, ValueError):
    """The handle was closed."""

class RegionGone(CacheError, OSError):
    """The region was destroyed or replaced; the next write attaches the new one."""

class NotRegion(CacheError, ValueError):
    """The file is not a cache region."""

class FormatVersion(CacheError, ValueError):
    """The region has a format that this release does not read."""

class RegionCorrupt(CacheError, OSError):
    """The region's fixed bytes contradict each other."""

class RegionTruncated(CacheError, OSError):
    """The region's file is shorter than its header says."""

class EarlierBoot(CacheError, OSError):
    """The region was made before this boot, and this handle may not make it anew."""

class ForeignOwner(CacheError, PermissionError):
    """The region belongs to another user or group."""

class RegionPermission(CacheError, PermissionError):
    """The region's file or directory may not be opened, or others may change it."""

class RegionSymlink(CacheError, PermissionError):
    """A symbolic link stands where the region's file should be."""

class InvalidName(CacheError, ValueError):
    """The name cannot name a region."""

class InvalidSize(CacheError, ValueError):
    """The size is below the minimum, or not a size."""

class SizeMismatch(CacheError, ValueError):
    """The region exists with another size, and ``on_mismatch`` is "error"."""

class RegionExists(CacheError, FileExistsError):
    """A region of that name exists."""

class RegionMissing(CacheError, FileNotFoundError):
    """There is no region of that name, and this handle may not create it."""

class ParticipantsFull(CacheError, OSError):
    """Every participant slot of the region is taken by a living process."""

class PinsFull(CacheError, OSError):
    """This process holds as many views as it can."""

class UnsupportedFilesystem(CacheError, OSError):
    """The file system cannot hold a region."""

class RegionIOError(CacheError, OSError):
    """The operating system refused a call; ``errno`` says why."""

class BufferTooSmall(CacheError, BufferError):
    """A buffer is too small for the value."""

class InvalidArgument(CacheError, ValueError):
    """An argument makes no sense; the text says which one."""

class InvalidConfig(CacheError, ValueError):
    """A ``CACHE_SHM_`` variable or the configuration file has a mistake; the text says where."""

class RegionHalfMade(CacheError, TimeoutError):
    """Another process is creating the region and did not finish in time."""

class InternalError(CacheError, RuntimeError):
    """A defect of this library."""

class UnsupportedType(CacheError, TypeError):
    """A key or value is of a type that is not stored."""

class NestedTooDeep(CacheError, ValueError):
    """A value has more than 64 levels, or contains itself."""

class BadEncoding(CacheError, ValueError):
    """The stored bytes are not what their kind says: another program wrote them, or they are damaged."""

class BadSignature(CacheError, ValueError):
    """A value is not signed with the secret of this handle, or was changed."""

class WrongSerializer(CacheError, ValueError):
    """The value was written by a serializer that this handle does not use."""

@disjoint_base
class Cache(MutableMapping[_Key, _Value], Generic[_Key, _Value]):
    """A cache in shared memory, the same one in every process that opens its name.

    It is a mutable mapping with times to live, atomic operations and a fixed size: when it
    is full, what is least worth keeping makes room. Keys are str, bytes, int or tuples of
    these; values are the plain types of Python, exactly and not their subclasses.
    """

    def __new__(
        cls,
        name: str | None,
        size: int | str | None = None,
        ttl: float | timedelta | None = ...,
        *,
        timeout: float | timedelta = ...,
        evict: bool | None = None,
        ephemeral: bool | None = None,
        read_only: bool | None = None,
        on_mismatch: Literal["warn", "error"] | None = None,
        mode: int | None = None,
        group: int | str | None = None,
        dir: str | PathLike[str] | None = None,
        prealloc: bool | None = None,
        serializer: Literal["pickle", "json", "msgpack", "msgspec"] | _Serializer | None = ...,
        compress: Literal["zstd", "lz4", "zlib"] | None = ...,
        compress_min: int | None = None,
        secret: str | bytes | None = ...,
        secret_file: str | PathLike[str] | None = None,
        namespace: str | None = None,
        local: int | None = None,
        share_mutable: bool = False,
    ) -> Self: ...
    @overload
    def get(self, key: _Key, default: None = None) -> _Value | None: ...
    @overload
    def get(self, key: _Key, default: _Value) -> _Value: ...
    @overload
    def get(self, key: _Key, default: _Default) -> _Value | _Default: ...
    @overload
    def peek(self, key: _Key, default: None = None) -> _Value | None:
        """As ``get``, without counting as a use of the key."""

    @overload
    def peek(self, key: _Key, default: _Value) -> _Value: ...
    @overload
    def peek(self, key: _Key, default: _Default) -> _Value | _Default: ...
    @overload
    def view(self, key: _Key, default: None = None) -> memoryview | None:
        """The bytes under ``key`` where they lie, read-only and without a copy."""

    @overload
    def view(self, key: _Key, default: _Default) -> memoryview | _Default: ...
    def reserve(self, key: _Key, nbytes: int, ttl: float | timedelta | None = ..., *, tags: _Tags | None = None) -> Reservation:
        """A private buffer that is stored under ``key`` when it is committed."""

    def array(self, key: _Key, default: Any = None) -> Any:
        """The NumPy array under ``key`` where it lies, read-only and without a copy."""

    def arrow(self, key: _Key, default: Any = None) -> Any:
        """The Arrow table or record batch under ``key`` where it lies, without a copy of its columns."""

    @overload
    def borrow(self, key: _Key, default: None = None) -> _Value | None:
        """As ``get``, but arrays, tables and the large buffers of pickles are lent, read-only."""

    @overload
    def borrow(self, key: _Key, default: _Value) -> _Value: ...
    @overload
    def borrow(self, key: _Key, default: _Default) -> _Value | _Default: ...
    @overload
    def gets(self, key: _Key, default: None = None) -> tuple[_Value | None, int | None]:
        """The value and a token for ``cas``; ``default`` and None if there is none."""

    @overload
    def gets(self, key: _Key, default: _Value) -> tuple[_Value, int | None]: ...
    @overload
    def gets(self, key: _Key, default: _Default) -> tuple[_Value | _Default, int | None]: ...
    def cas(self, key: _Key, value: _Value, token: int | None, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...) -> bool:
        """Stores ``value`` if ``key`` is as ``gets`` found it; True if it was stored."""

    def set(self, key: _Key, value: _Value, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...) -> None:
        """Stores ``value``; ttl unset: the cache's default, None: for ever, <= 0: expired already."""

    def add(self, key: _Key, value: _Value, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...) -> bool:
        """Stores ``value`` only if ``key`` is not there; True if it was stored."""

    def replace(self, key: _Key, value: _Value, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...) -> bool:
        """Stores ``value`` only if ``key`` is there; True if it was stored."""

    def delete(self, key: _Key) -> bool:
        """Removes ``key``; True if it was there."""

    @overload
    def pop(self, key: _Key) -> _Value: ...
    @overload
    def pop(self, key: _Key, default: _Value) -> _Value: ...
    @overload
    def pop(self, key: _Key, default: _Default) -> _Value | _Default: ...
    def popitem(self) -> tuple[_Key, _Value]:
        """Removes any key and returns it with its value, in one step."""

    def touch(self, key: _Key, ttl: float | timedelta | None = ...) -> bool:
        """Gives ``key`` a new time to live; False if it is not there."""

    def ttl(self, key: _Key) -> float | None:
        """Seconds that ``key`` still has, None if it never expires; KeyError if it is not there."""

    def expire_at(self, key: _Key, moment: float | datetime) -> bool:
        """Makes ``key`` live until ``moment``; False if it is not there."""

    def persist(self, key: _Key) -> bool:
        """Lets ``key`` live for ever; False if it is not there."""

    def incr(
        self, key: _Key, delta: int = 1, default: int | None = None, ttl: float | timedelta | None = ...
    ) -> int:
        """Adds ``delta`` (1) in one step; a missing key is a KeyError, or counts as ``default``."""

    def decr(
        self, key: _Key, delta: int = 1, default: int | None = None, ttl: float | timedelta | None = ...
    ) -> int:
        """Subtracts ``delta`` (1) in one step; otherwise as ``incr``."""

    def get_many(self, keys: Iterable[_Key]) -> dict[_Key, _Value]:
        """The values of those keys that are there."""

    def set_many(
        self,
        items: Mapping[_Key, _Value] | Iterable[tuple[_Key, _Value]],
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = ...,
    ) -> list[_Key]:
        """Stores every pair; a list of the keys that failed."""

    def append(
        self,
        key: _Key,
        tail: str | bytes,
        default: str | bytes | None = None,
        ttl: float | timedelta | None = ...,
    ) -> int:
        """Appends in one step; the new length in bytes. A missing key is a KeyError, or starts as ``default``."""

    def scan(self, prefix: str | bytes | None = None) -> Iterator[_Key]:
        """An iterator over the keys that begin with ``prefix``."""

    def delete_prefix(self, prefix: str | bytes) -> int:
        """Removes the keys that begin with ``prefix``; how many there were."""

    def lock(self, name: Any, ttl: float | timedelta | None = None, reentrant: bool = False) -> Lock:
        """The lock of that name: one thread or task of all processes holds it at a time."""

    def semaphore(self, name: Any, value: int, ttl: float | timedelta | None = None) -> Semaphore:
        """The semaphore of that name: ``value`` threads or tasks hold it at a time."""

    def rate_limit(self, name: Any, limit: int, per: float | timedelta) -> RateLimit:
        """The rate limit of that name: ``limit`` hits in each ``per`` seconds."""

    def delete_many(self, keys: Iterable[_Key]) -> int:
        """Removes every key; how many were there."""

    @overload
    def get_or_set(
        self,
        key: _Key,
        default: Callable[[], _Value],
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = None,
        stale_ttl: float | timedelta | None = None,
        early: float | None = None,
        negative_ttl: float | timedelta | None = None,
        negative: type[Exception] | tuple[type[Exception], ...] | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
    ) -> _Value:
        """The value; if there is none, what the function returns: one caller of the host makes it."""

    @overload
    def get_or_set(
        self,
        key: _Key,
        default: _Value,
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
    ) -> _Value: ...
    @overload
    def aget_or_set(
        self,
        key: _Key,
        default: Callable[[], Awaitable[_Value]],
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = None,
        stale_ttl: float | timedelta | None = None,
        early: float | None = None,
        negative_ttl: float | timedelta | None = None,
        negative: type[Exception] | tuple[type[Exception], ...] | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, _Value]:
        """As ``get_or_set`` for the running task; other tasks run while it waits."""

    @overload
    def aget_or_set(
        self,
        key: _Key,
        default: Callable[[], _Value],
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = None,
        stale_ttl: float | timedelta | None = None,
        early: float | None = None,
        negative_ttl: float | timedelta | None = None,
        negative: type[Exception] | tuple[type[Exception], ...] | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, _Value]: ...
    @overload
    def aget_or_set(
        self,
        key: _Key,
        default: _Value,
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, _Value]: ...
    def _look(self, key: _Key, stale: float, beta: float) -> tuple[_Value, int | None] | None: ...
    def _made(
        self,
        key: _Key,
        value: _Value,
        cost: float,
        replaces: bool,
        token: int | None,
        since: list[int] | None = None,
        ttl: float | timedelta | None = ...,
        tags: _Tags | None = ...,
    ) -> _Value: ...
    def _generations(self, tags: _Tags | None) -> list[int]: ...
    @property
    def failures(self) -> Counter[str]: ...
    def alock(self, name: Any, ttl: float | timedelta | None = None, reentrant: bool = False) -> Lock:
        """The lock of that name, for ``async with``."""

    @overload
    def memoize(self, ttl: Callable[Concatenate[type[_S], _Q], _R], /) -> _ClassMemoized[_S, _Q, _R]:
        """Decorates a function whose values are kept for all processes, and made once."""

    @overload
    def memoize(self, ttl: Callable[_P, _R], /) -> _Memoized[_P, _R]: ...

    @overload
    def memoize(
        self,
        ttl: float | timedelta | None = ...,
        *,
        tags: _Tags | Callable[..., _Tags | None] | None = None,
        stale_ttl: float | timedelta | None = None,
        early: float | None = None,
        negative_ttl: float | timedelta | None = None,
        negative: type[Exception] | tuple[type[Exception], ...] | None = None,
        on_error: Literal["call", "raise"] = "call",
        wait: float | timedelta | None = None,
        key: Callable[..., Any] | None = None,
        prefix: str | None = None,
        typed: bool = False,
        ignore: Iterable[str] = (),
        version: str | int | None = None,
    ) -> _Memoize: ...
    @overload
    def setdefault(
        self: Cache[_Key, _Default | None], key: _Key, default: None = None, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...
    ) -> _Default | None: ...
    @overload
    def setdefault(self, key: _Key, default: _Value, ttl: float | timedelta | None = ..., *, tags: _Tags | None = ...) -> _Value: ...
    @overload
    def update(self, other: _KeysAndGetItem[_Key, _Value] | Iterable[tuple[_Key, _Value]] = ..., /) -> None: ...
    @overload
    def update(
        self: Cache[str, _Value],
        other: _KeysAndGetItem[str, _Value] | Iterable[tuple[str, _Value]] = ...,
        /,
        **entries: _Value,
    ) -> None: ...
    def clear(self, *, all_namespaces: bool = False) -> None:
        """Removes every key of this namespace, or of all, in one step."""

    def evict_tag(self, tag: str | bytes) -> None:
        """Removes every value of this namespace that was stored with ``tag``, in one step."""

    def namespace(self, name: str, ttl: float | timedelta | None = ...) -> Cache[_Key, _Value]:
        """A handle on the namespace ``name`` of this region, which is made if it is not there yet."""

    @property
    def namespace_name(self) -> str | None: ...
    def namespaces(self) -> dict[str, dict[str, int]]:
        """The namespaces that were made in this region, with their counters."""

    def local_info(self) -> LocalInfo | None:
        """What the objects did that this handle keeps; None without ``local=``."""

    def stats(self, *, reset: bool = False) -> dict[str, int]:
        """Counters of the whole region or of a namespace, summed over all processes."""

    def keys(self) -> KeysView[_Key]: ...
    def values(self) -> ValuesView[_Value]: ...
    def items(self) -> ItemsView[_Key, _Value]: ...
    def _iter_values(self) -> Iterator[_Value]: ...
    def _iter_items(self) -> Iterator[tuple[_Key, _Value]]: ...
    def close(self) -> None:
        """Closes this handle; the region stays. Closing twice is fine."""

    def destroy(self) -> None:
        """Removes the region for everyone."""

    @property
    def name(self) -> str | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def default_ttl(self) -> float | None: ...
    @property
    def timeout(self) -> float: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def __getitem__(self, key: _Key, /) -> _Value: ...
    def __setitem__(self, key: _Key, value: _Value, /) -> None: ...
    def __delitem__(self, key: _Key, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[_Key]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class Bell:
    """What a loop watches while its tasks wait for locks."""

    @staticmethod
    def make() -> Bell | None: ...
    def fileno(self) -> int: ...
    def rung(self) -> list[int]: ...
    def wait(self, lease: Lease, number: int) -> object: ...

@disjoint_base
class Lease:
    """A lock or semaphore of the host: what ``Lock`` and ``Semaphore`` share."""

    def __new__(cls, cache: Cache, name: Any, count: int, ttl: float | timedelta | None, reentrant: bool, flight: bool = False) -> Self: ...
    def acquire(self, blocking: bool = True, timeout: float | timedelta | None = None) -> bool:
        """Takes it; True if it is held now. Waits for ``timeout`` seconds, or for ever (-1)."""

    def release(self) -> None:
        """Gives it back. Raises NotHolder if this thread or task does not hold it, or its ttl has passed."""

    def extend(self, ttl: float | timedelta | None) -> None:
        """Lets it end in ``ttl`` seconds from now, or only with this process (None)."""

    def locked(self) -> bool:
        """True if nobody could take it now."""

    def owned(self) -> bool:
        """True if this thread or the running task holds it by this object."""

    @property
    def token(self) -> int | None: ...
    def _try(self, holder: int) -> bool: ...
    def _release_any(self) -> None: ...
    def _current(self) -> int | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Clock:
    """The clock of all regions in a directory, moved by hand instead of waited for."""

    def __new__(cls, directory: str | PathLike[str]) -> Self: ...
    def advance(self, seconds: float | timedelta, /) -> None:
        """Moves the clock on by more than zero seconds, for everybody at once and never back."""

    @property
    def now(self) -> float: ...

@final
class Probe:
    """Finds values of one decorated function, see ``Cache.memoize``."""

    def __new__(
        cls,
        cache: Cache,
        begin: str,
        parameters: list[tuple[str | None, str, bool, str | None]],
        positional: int,
        text_bytes_max: int,
        early: tuple[float, float] | None,
        unusual: object,
        absent: object,
    ) -> Self: ...
    def find(self, arguments: tuple[Any, ...], keywords: dict[str, Any], /) -> Any: ...
    def hits(self, resets: bool) -> int: ...

@disjoint_base
class Rate:
    """A rate limit of the host: what ``RateLimit`` is made of."""

    def __new__(cls, cache: Cache, name: Any, limit: int, per: float | timedelta) -> Self: ...
    def _hit(self, key: Any, cost: int) -> tuple[bool, int, float]: ...

def regions(dir: str | PathLike[str] | None = None) -> list[dict[str, Any]]: ...
def destroy(name: str, dir: str | PathLike[str] | None = None) -> None: ...
def error_counts() -> dict[str, int]: ...
def thread_number() -> int:
    """A number that no other thread of this process has."""

def encode(value: object, bytes_max: int = ...) -> tuple[int, bytes]:
    """Kind and bytes of ``value``, as docs/value-encoding.md describes them. For tests and tools."""

def decode(kind: int, data: bytes) -> Any:
    """The object that ``data`` of ``kind`` stand for. For tests and tools."""
