"""A web site on this host that counts what is fetched from it."""

from __future__ import annotations

import asyncio
import collections
import threading
from typing import Any

from aiohttp import web
from waiting import until

TEXT = "<p>Some words that stand in a paragraph, so that nobody takes the page for an empty one.</p>" * 60


def html(title: str, body: str = "") -> str:
    """A page that is large enough not to look like a block."""
    return (
        f"<html><head><title>{title}</title></head><body><h1>{title}</h1><div class='one'>first part {body}</div>"
        f"<div class='two'>second part</div><a href='/page/other'>other</a>{TEXT}</body></html>"
    )


# What a site shows that is not sure of who is asking, with status 200.
CHALLENGE = (
    "<html><head><title>Just a moment...</title></head><body><h1>Checking your browser</h1>"
    "<p>This takes some seconds, after which you are sent to the page.</p>"
    "<script src='/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1'></script></body></html>"
)


# How pages keep an account in the storage of a browser, and show it.
DATABASE = (
    "const asked = indexedDB.open('accounts', 1); asked.onupgradeneeded = () => asked.result.createObjectStore('a');"
)
STORE = {
    "local": "localStorage.setItem('user', '{user}'); document.write('<p id=done>done</p>')",
    "database": DATABASE
    + """asked.onsuccess = () => {{
        const writing = asked.result.transaction('a', 'readwrite');
        writing.objectStore('a').put('{user}', 'user');
        writing.oncomplete = () => document.body.insertAdjacentHTML('beforeend', '<p id=done>done</p>');
    }}""",
}
STORED = {
    "local": "document.write('<p id=who>acc' + 'ount-' + (localStorage.getItem('user') || 'nobody') + '</p>')",
    "database": DATABASE
    + """asked.onsuccess = () => {
        const reading = asked.result.transaction('a').objectStore('a').get('user');
        reading.onsuccess = () => document.body.insertAdjacentHTML(
            'beforeend', '<p id=who>acc' + 'ount-' + (reading.result || 'nobody') + '</p>');
    }""",
}


def _account(request: web.Request, headers: dict[str, str]) -> web.Response:
    """Pages of a site with accounts: log in, see who is logged in, and be vouched for by another site."""
    _, kind, name, *_ = [*request.path.split("/"), ""]
    user = request.query.get("user", "nobody")
    if kind == "sso":
        user = request.query.get("code") or request.cookies.get("app", "")
        if not user:
            idp = f"http://127.0.0.1:{request.url.port}/idp/?back={request.url}"
            return web.Response(status=302, headers={"Location": idp})
        if "code" in request.query:
            answer = web.Response(status=302, headers={"Location": request.path})
            answer.set_cookie("app", user)
            return answer
    if kind == "idp":
        user = request.cookies.get("sid", "nobody")
        return web.Response(status=302, headers={"Location": f"{request.query['back']}?code={user}"})
    if kind == "agent":
        user = request.headers["User-Agent"]
    if kind == "private":
        user = request.headers.get("X-Account") or request.cookies.get("sid", "nobody")
    body = f"<p>account-{user}</p>"
    if kind in ("store", "stored"):
        script = STORE[name].format(user=user) if kind == "store" else STORED[name]
        body = f"<script>{script}</script>"
    answer = web.Response(text=html(request.path, body), content_type="text/html", headers=headers)
    if kind == "login":
        answer.set_cookie("sid", user, httponly=True)
    return answer


class Site:
    """Serves pages in a thread of its own. `fetches` counts requests by path, `revalidations` those answered 304."""

    def __init__(self) -> None:
        self.fetches: collections.Counter[str] = collections.Counter()
        self.revalidations: collections.Counter[str] = collections.Counter()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.contents: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.targets: dict[str, str] = {}
        self.seconds = 0.0
        #: Until it is set, pages below /held are not answered.
        self.released = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._runner: Any = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(20)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.requests.append((request.method, path, dict(request.headers)))
        kind = path.split("/")[1]
        content = self.contents.get(path, html(f"Page {path}"))
        status = self.statuses.get(path, 200)
        # No browser is to keep it.
        headers = {"Cache-Control": "no-store"}
        if kind == "etag":
            # Not as Crawl4AI spells it.
            headers["Etag"] = f'"{hash(content) & 0xFFFFFF:x}"'
            headers["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"
            if request.headers.get("If-None-Match") == headers["Etag"]:
                self.revalidations[path] += 1
                return web.Response(status=304, headers=headers)
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        self.fetches[path] += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if kind == "held":
            await until("what is held is released", self.released.is_set)
        if kind == "redirect":
            return web.Response(status=302, headers={"Location": self.targets.get(path, "/page/target")})
        if kind == "missing":
            status, content = 404, html("Not found")
        if kind == "blocked":
            status, content = (
                403,
                "<html><head><title>Just a moment...</title></head><body>A check, cf-challenge</body></html>",
            )
        if kind in ("login", "private", "store", "stored", "sso", "idp", "agent"):
            return _account(request, headers)
        if kind == "visit":
            # Another one with each visit, as those of analytics.
            headers["Set-Cookie"] = f"seen={len(self.requests)}; Path=/"
        if kind == "challenge":
            content = CHALLENGE
        if kind == "json":
            return web.Response(text='{"a": 1}', content_type="application/json")
        return web.Response(status=status, text=content, content_type="text/html", headers=headers)
