"""The cache behind the interfaces of frameworks and libraries, one module for each.

``django``, ``cachelib``, ``flask_caching``, ``dogpile``, ``aiocache``, ``limits`` and
``requests_cache`` each import the library that they are named for, and nothing here imports
them: a library is needed only by those who use its module. docs/adapters.md has a working
configuration of each.
"""
