"""The decorator behind ``Cache.memoize``, and the keys that it makes of calls."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial, wraps
from typing import Any, NamedTuple

from . import _flight
from ._flight import MISSING
from ._pycache import Cache, CacheError, Probe, encode

# Arguments longer than this are in the key by their digest.
_TEXT_MAX = 200
# Longest name of a tag.
_TAG_BYTES_MAX = 255
# What a probe returns when the call itself has to be looked at, and when it has no value.
_UNUSUAL: Any = object()
_ABSENT: Any = object()
# Exactly these are the same in every process by their repr, and equal to nothing of another type.
_PLAIN = frozenset({int, str, bytes, type(None)})
# Defaults of these types stand for themselves as long as the function lives.
_CONSTANT = _PLAIN | {bool, float}


_LOG = logging.getLogger("pycache")


class CacheInfo(NamedTuple):
    """Calls of this process that found a value, and that did not."""

    hits: int
    misses: int


def _name(function: Any) -> str:
    """Module and name, the same in every process that runs the same program."""
    module = function.__module__
    if module in ("__main__", "__mp_main__"):
        main = sys.modules.get(module)
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None and module == "__main__":
            module = spec.name
        elif file is not None:
            module = os.path.realpath(file)
    return f"{module}.{function.__qualname__}"


def _class(of: type) -> str:
    return f"{of.__module__}.{of.__qualname__}"


def _text(value: Any, typed: bool) -> str:
    """What stands for ``value`` in a key; UnsupportedType for what has no such text."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if hasattr(kind, "__cache_key__"):
        return f"<{_class(kind)} {_text(value.__cache_key__(), True)}>"
    if isinstance(value, type):
        return f"<class {_class(value)}>"
    if isinstance(value, Enum):
        return f"<{_class(kind)}.{value.name}>"
    if kind is bool or kind is float:
        return repr(value) if typed or value != value or value in (float("inf"), float("-inf")) or value % 1 else repr(int(value))
    if kind is tuple or kind is list:
        inner = ",".join(_text(item, typed) for item in value)
        return f"({inner})" if kind is tuple else f"[{inner}]"
    if kind is set or kind is frozenset:
        return f"{{{','.join(sorted(_text(item, typed) for item in value))}}}"
    if kind is dict:
        return f"{{{','.join(sorted(f'{_text(key, typed)}:{_text(item, typed)}' for key, item in value.items()))}}}"
    return "<{} {}>".format(*_bytes(value))


def _tag(begin: str) -> str:
    """What the values of a function are tagged with, whose keys begin so."""
    data = begin.encode()
    return begin if len(data) <= _TAG_BYTES_MAX else hashlib.blake2b(data, digest_size=32).hexdigest()


def _bytes(value: Any) -> tuple[int, str]:
    kind, data = encode(value)
    return kind, data.hex()


class Memoize:
    """Decorates functions for one cache, as ``Cache.memoize`` describes it."""

    def __init__(
        self,
        cache: Cache[Any, Any],
        plan: _flight.Plan,
        tags_of: Callable[..., Any] | None = None,
        *,
        key: Callable[..., Any] | None = None,
        prefix: str | None = None,
        typed: bool = False,
        ignore: Iterable[str] = (),
        version: str | int | None = None,
    ) -> None:
        if isinstance(ignore, str):
            raise TypeError("ignore is a collection of names of parameters, not a str")
        self._cache, self._plan, self._tags_of, self._key, self._prefix = cache, plan, tags_of, key, prefix
        self._typed, self._ignore, self._version = typed, frozenset(ignore), version

    def __call__(self, function: Any) -> Any:
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self(function.__func__))
        if isinstance(function, property):
            return property(self(function.fget), function.fset, function.fdel, function.__doc__)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("what a generator function returns cannot be kept")
        if not callable(function):
            raise TypeError(f"memoize decorates functions, not {type(function).__name__}")
        if self._prefix is None and self._key is None and getattr(function, "__self__", None) is not None:
            raise ValueError("a bound method needs prefix= or key=, which tells its object from others")
        if self._prefix is None and getattr(function, "__name__", "<lambda>") == "<lambda>":
            raise ValueError("a function without a name of its own needs prefix=, which begins its keys")
        key_of, begin, probe = self._keys(function)
        return self._wrap(function, key_of, _tag(begin), probe)

    def _keys(self, function: Any) -> tuple[Callable[..., str], str, Probe | None]:
        """What makes keys, how they begin, and what finds values of usual calls."""
        begin = self._prefix if self._prefix is not None else _name(function)
        begin += "(" if self._version is None else f"@{self._version}("
        typed, given, ignore = self._typed, self._key, self._ignore
        signature = inspect.signature(function)
        if unknown := sorted(ignore - signature.parameters.keys()):
            raise TypeError(f"{begin[:-1]} has no parameter named {unknown[0]!r} to ignore")
        kinds = inspect.Parameter
        parameters = list(signature.parameters.values())
        # Those that have a place, and whether there are no others.
        named = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        plain = len(named) == len(parameters) and not ignore
        plain_count = len(named)

        def text_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
            if given is not None:
                return _text(given(*arguments, **keywords), typed)
            if plain and not keywords and len(arguments) == plain_count:
                return ",".join([_text(value, typed) for value in arguments])
            bound = signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            parts = []
            for parameter in parameters:
                name = parameter.name
                if name in ignore:
                    continue
                if name not in bound.arguments:
                    # CPython 3.13.0 binds a keyword that has the name of a parameter without one.
                    raise TypeError(f"missing a required argument: {name!r}")
                value = bound.arguments[name]
                if parameter.kind is kinds.VAR_POSITIONAL:
                    parts += [_text(item, typed) for item in value]
                elif parameter.kind is kinds.VAR_KEYWORD:
                    parts += [f"{word}={_text(value[word], typed)}" for word in sorted(value)]
                elif parameter.kind is kinds.KEYWORD_ONLY:
                    parts.append(f"{name}={_text(value, typed)}")
                else:
                    parts.append(_text(value, typed))
            return ",".join(parts)

        def key_of(*arguments: Any, **keywords: Any) -> str:
            text = text_of(arguments, keywords)
            if len(text) > _TEXT_MAX:
                text = "#" + hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
            return f"{begin}{text})"

        def of_probe(parameter: inspect.Parameter) -> tuple[str | None, str, bool, str | None]:
            """Its name if it can be given so, its label in keys, whether it is ignored, and what stands for its default."""
            name, default = parameter.name, parameter.default
            text = _text(default, typed) if type(default) in _CONSTANT else None
            label = f"{name}=" if parameter.kind is kinds.KEYWORD_ONLY else ""
            return None if parameter.kind is kinds.POSITIONAL_ONLY else name, label, name in ignore, text

        probe = None
        if given is None and all(p.kind is not kinds.VAR_POSITIONAL for p in parameters):
            of_all = [of_probe(p) for p in parameters if p.kind is not kinds.VAR_KEYWORD]
            probe = Probe(self._cache, begin, of_all, plain_count, _TEXT_MAX, self._plan.early, _UNUSUAL, _ABSENT)
        return key_of, begin, probe

    def _wrap(self, function: Any, key_of: Callable[..., str], tag: str, probe: Probe | None) -> Any:
        cache, plan, tags_of = self._cache, self._plan.tagged(tag), self._tags_of
        on_error = plan.on_error
        probed = probe.find if probe is not None else lambda _arguments, _keywords: _UNUSUAL
        hits = misses = 0
        is_told = False
        wrapper: Any
        refresh: Any

        def without_key(error: Exception) -> None:
            """Counts a call whose arguments make no key, and says so once for the function."""
            nonlocal is_told
            if on_error == "raise":
                raise error
            _flight.failures(cache)[getattr(error, "code", None) or type(error).__name__] += 1
            if not is_told:
                is_told = True
                _LOG.warning(
                    "%s is called each time, for its arguments make no key (leave one out by ignore=, as ignore=('self',), "
                    "name what tells calls apart by key=, or give its class a __cache_key__()): %s",
                    getattr(function, "__qualname__", tag), error,
                )

        def plan_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _flight.Plan:
            """The plan with the tags of this call."""
            tags = None if tags_of is None else tags_of(*arguments, **keywords)
            if tags is None:
                return plan
            return plan.tagged(tags) if isinstance(tags, (str, bytes)) else plan.tagged(*tags)

        def look(
            arguments: tuple[Any, ...], keywords: dict[str, Any], is_absent: bool
        ) -> tuple[str | None, Any, Any, bool]:
            """Key, value, that with its version if it is due, and whether what is there cannot be read."""
            nonlocal hits, misses
            try:
                key = key_of(*arguments, **keywords)
            except (CacheError, RecursionError) as error:
                misses += 1
                without_key(error)
                return None, MISSING, None, False
            if is_absent:
                misses += 1
                return key, MISSING, None, False
            try:
                found, old = _flight.look(cache, key, plan)
            except Exception as error:
                _flight.failed(cache, error, on_error)
                misses += 1
                return key, MISSING, None, True
            if found is MISSING:
                misses += 1
            else:
                hits += 1
            return key, found, old, False

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def wrapper_task(*arguments: Any, **keywords: Any) -> Any:
                found = probed(arguments, keywords)
                if found is not _ABSENT and found is not _UNUSUAL:
                    return found
                key, found, old, is_bad = look(arguments, keywords, found is _ABSENT)
                if found is not MISSING and old is None:
                    return found
                if key is None:
                    return await function(*arguments, **keywords)
                make = partial(function, *arguments, **keywords)
                return await _flight.fly(cache, key, make, plan_of(arguments, keywords), old, is_bad)

            async def refresh_task(*arguments: Any, **keywords: Any) -> Any:
                own = plan_of(arguments, keywords)
                begun = _flight.Begun(cache, own)
                return keep_it(arguments, keywords, await function(*arguments, **keywords), own, begun)

            wrapper, refresh = wrapper_task, refresh_task
        else:

            @wraps(function)
            def wrapper_call(*arguments: Any, **keywords: Any) -> Any:
                found = probed(arguments, keywords)
                if found is not _ABSENT and found is not _UNUSUAL:
                    return found
                key, found, old, is_bad = look(arguments, keywords, found is _ABSENT)
                if found is not MISSING and old is None:
                    return found
                if key is None:
                    return function(*arguments, **keywords)
                make = partial(function, *arguments, **keywords)
                return _flight.get_or_set(cache, key, make, plan_of(arguments, keywords), None, old, is_bad)

            def refresh_call(*arguments: Any, **keywords: Any) -> Any:
                own = plan_of(arguments, keywords)
                begun = _flight.Begun(cache, own)
                value = _flight.refuse_awaitable(function(*arguments, **keywords))
                return keep_it(arguments, keywords, value, own, begun)

            wrapper, refresh = wrapper_call, refresh_call

        def keep_it(
            arguments: tuple[Any, ...], keywords: dict[str, Any], value: Any, own: _flight.Plan, begun: _flight.Begun
        ) -> Any:
            try:
                key = key_of(*arguments, **keywords)
            except (CacheError, RecursionError) as error:
                without_key(error)
                return value
            _flight.forget_raised(cache, key, own)
            return _flight.store(cache, key, value, own, True, begun)

        def cache_clear() -> None:
            """Removes every value of the function, for all processes, in one step."""
            nonlocal hits, misses
            hits = misses = 0
            if probe is not None:
                probe.hits(True)
            cache.evict_tag(tag)

        def cache_info() -> CacheInfo:
            """Hits and misses of this process."""
            return CacheInfo(hits + (probe.hits(False) if probe is not None else 0), misses)

        decorated: Any = wrapper
        decorated.bypass, decorated.refresh, decorated.cache_key = function, refresh, key_of
        decorated.cache_clear, decorated.cache_info = cache_clear, cache_info
        return decorated
