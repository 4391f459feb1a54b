"""Middleware that keeps responses in a region, for Starlette, FastAPI and every other ASGI framework.

    app.add_middleware(ResponseCache, cache=Cache("responses", size="64MiB"), ttl=60)

All worker processes of a server then render a page once. Only what is the same for everybody is kept:
answers 200 to GET without ``Authorization`` or ``Cookie``, that neither set a cookie, nor vary, nor say
``no-store`` or ``private``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pycache import Cache, CacheError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class ResponseCache:
    """Answers from ``cache`` what another request, in any process, has had answered before.

    A response is kept for ``ttl`` seconds if its body has at most ``bytes_max`` bytes. A cache that fails
    is passed by.
    """

    def __init__(self, app: App, cache: Cache[str, Any], ttl: float = 60, bytes_max: int = 1 << 20) -> None:
        self.app = app
        self.cache = cache
        self.ttl = ttl
        self.bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or personal(scope["headers"]):
            await self.app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        key = f"{scope['scheme']}://{host}{scope['path']}?{scope['query_string'].decode('latin-1')}"
        try:
            found = self.cache.get(key)
        except CacheError:
            found = None
        if found is not None:
            headers, body = found
            await send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"x-cache", b"hit")]})
            await send({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, Recording(self, key, send))


class Recording:
    """Sends an answer on, and keeps it when it is complete."""

    def __init__(self, of: ResponseCache, key: str, send: Send) -> None:
        self.of = of
        self.key = key
        self.send = send
        self.headers: Headers | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 200 and public(message["headers"]):
                self.headers = [(bytes(name), bytes(value)) for name, value in message["headers"]]
        elif message["type"] == "http.response.body" and self.headers is not None:
            self.body += message.get("body", b"")
            if len(self.body) > self.of.bytes_max:
                self.headers = None
            elif not message.get("more_body", False):
                try:
                    self.of.cache.set(self.key, (self.headers, self.body), self.of.ttl)
                except CacheError:
                    pass
        await self.send(message)


def personal(headers: Headers) -> bool:
    """Whether a request comes from somebody in particular."""
    return any(name.lower() in (b"authorization", b"cookie") for name, _ in headers)


def public(headers: Headers) -> bool:
    """Whether an answer is the same for everybody."""
    for name, value in headers:
        if name.lower() in (b"set-cookie", b"vary"):
            return False
        if name.lower() == b"cache-control" and any(word in value.lower() for word in (b"no-store", b"private", b"no-cache")):
            return False
    return True
