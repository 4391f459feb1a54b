"""A backend for Flask-Caching.

.. code-block:: python

    app.config["CACHE_TYPE"] = "pycache.adapters.flask_caching.SharedMemoryCache"
    app.config["CACHE_OPTIONS"] = {"name": "site", "size": "64MiB"}

``CACHE_OPTIONS`` are the arguments of ``pycache.adapters.cachelib.SharedMemoryCache``, whose rules
and whose trust in pickle hold here too. ``CACHE_DEFAULT_TIMEOUT``, ``CACHE_KEY_PREFIX`` and
``CACHE_IGNORE_ERRORS`` are Flask-Caching's own.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_caching.backends.base import BaseCache

from . import cachelib

__all__ = ["SharedMemoryCache"]


class SharedMemoryCache(cachelib.SharedMemoryCache, BaseCache):
    """One cache in shared memory for all processes of an application."""

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> SharedMemoryCache:
        """Makes the backend; ValueError if no region is named."""
        arguments = {"key_prefix": config["CACHE_KEY_PREFIX"], **kwargs}
        if not args and "name" not in arguments:
            raise ValueError('CACHE_OPTIONS must have the name of the cache\'s region: {"name": ...}')
        return cls(*args, **arguments)
