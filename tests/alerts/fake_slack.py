"""A Slack that behaves as documented, on a loopback port: Web API methods and an incoming webhook.

Answers can be scripted with `fail_next`; what was posted is in `messages`, a webhook's in `hooked`.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "xoxb-test-token"
CHANNEL = "C0123456789"
CHANNEL_NAME = "#costs"
HOOK_PATH = "/services/T000/B000/hooksecret"


@dataclass
class Fault:
    """One scripted answer: a status with headers, an error code, a hang, or a cut after the work was done."""

    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang_seconds: float = 0
    cut_after_work: bool = False
    body: bytes | None = None
    method: str = ""


def rate_limited(seconds: int) -> Fault:
    return Fault(429, "ratelimited", {"Retry-After": str(seconds)})


class FakeSlack:
    """Use as a context manager."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.hooked: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.updates: list[dict[str, Any]] = []
        self.is_history_allowed = True
        self._faults: list[Fault] = []
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/"

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{HOOK_PATH}"

    @property
    def threads(self) -> list[dict[str, Any]]:
        """Messages that are not replies."""
        return [one for one in self.messages if "thread_ts" not in one]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [one for one in self.messages if "thread_ts" in one]

    def fail_next(self, *faults: Fault) -> None:
        """Answer the next calls so, in order; a fault with a method waits for a call of that method."""
        self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take_fault(self, method: str) -> Fault | None:
        with self._guard:
            found = next((one for one in self._faults if one.method in {"", method}), None)
            if found:
                self._faults.remove(found)
            return found

    def hang(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def call(self, method: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the Web API answers."""
        if not token:
            return _no("not_authed")
        if token != TOKEN:
            return _no("invalid_auth")
        methods = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
        }
        with self._guard:
            return methods[method](body) if method in methods else _no("unknown_method")

    def hook(self, body: dict[str, Any]) -> tuple[int, str]:
        """What the webhook answers."""
        if error := refusal(body):
            return 400, error
        self.hooked.append(body)
        return 200, "ok"

    def _auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, "user": "pennytrace", "team": "Test", "bot_id": "B1"}

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("channel") not in {CHANNEL, CHANNEL_NAME}:
            return _no("channel_not_found")
        if error := refusal(body):
            return _no(error)
        posted = {**body, "channel": CHANNEL, "ts": f"1700000000.{len(self.calls):06d}"}
        if "thread_ts" in posted and all(one["ts"] != posted["thread_ts"] for one in self.messages):
            return _no("thread_not_found")
        self.messages.append(posted)
        return {"ok": True, "channel": CHANNEL, "ts": posted["ts"], "message": posted}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        # Slack wants the id here: a name is not found.
        if body.get("channel") != CHANNEL:
            return _no("channel_not_found")
        if error := refusal(body):
            return _no(error)
        found = next((one for one in self.messages if one["ts"] == body.get("ts")), None)
        if found is None:
            return _no("message_not_found")
        found.update({name: body[name] for name in ("text", "blocks", "metadata") if name in body})
        self.updates.append(body)
        return {"ok": True, "channel": CHANNEL, "ts": found["ts"], "text": found["text"]}

    def _history(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.is_history_allowed:
            return _no("missing_scope")
        if body.get("channel") != CHANNEL:
            return _no("channel_not_found")
        return {"ok": True, "messages": self.threads[::-1], "has_more": False}

    def _replies(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.is_history_allowed:
            return _no("missing_scope")
        if body.get("channel") != CHANNEL:
            return _no("channel_not_found")
        ts = body.get("ts")
        own = [one for one in self.messages if ts in {one["ts"], one.get("thread_ts")}]
        if not own:
            return _no("thread_not_found")
        # Slack gives the parent of a thread its own ts as thread_ts.
        shown = [{"thread_ts": ts, **one} for one in own] if len(own) > 1 else own
        if body.get("include_all_metadata") not in {"1", "true", True}:
            shown = [{name: value for name, value in one.items() if name != "metadata"} for one in shown]
        return {"ok": True, "messages": shown, "has_more": False}


def _no(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


def refusal(body: dict[str, Any]) -> str:
    """Slack's limits, as documented; '' when the message keeps them."""
    if not body.get("text") and not body.get("blocks"):
        return "no_text"
    if len(body.get("text", "")) > 40_000:
        return "msg_too_long"
    blocks = body.get("blocks", [])
    if len(blocks) > 50 or not all(map(_is_valid, blocks)):
        return "invalid_blocks"
    return ""


def _is_valid(block: dict[str, Any]) -> bool:
    limits = {"header": 150, "section": 3000}
    if block["type"] in limits:
        return 0 < _units(block["text"]["text"]) <= limits[block["type"]]
    texts = [element["text"] for element in block["elements"]]
    return block["type"] == "context" and len(texts) <= 10 and all(0 < _units(text) <= 2000 for text in texts)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _handler(slack: FakeSlack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            method = "webhook" if self.path == HOOK_PATH else self.path.removeprefix("/api/").partition("?")[0]
            slack.calls.append(method)
            fault = slack.take_fault(method)
            if fault and not fault.cut_after_work:
                slack.hang(fault.hang_seconds)
                said = fault.error.encode() if method == "webhook" else json.dumps(_no(fault.error)).encode()
                self._answer(fault.status, said if fault.body is None else fault.body, fault.headers)
                return
            status, answer = self._work(method, raw)
            if fault:
                # The connection ends without an answer although the work was done.
                slack.hang(fault.hang_seconds)
                self.close_connection = True
                return
            self._answer(status, answer, {})

        def _work(self, method: str, raw: bytes) -> tuple[int, bytes]:
            body = _body(raw, self.headers.get("Content-Type", ""))
            if method == "webhook":
                status, text = slack.hook(body)
                return status, text.encode()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            return 200, json.dumps(slack.call(method, token, body)).encode()

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _body(raw: bytes, content_type: str) -> dict[str, Any]:
    if "json" in content_type:
        return json.loads(raw or b"{}")
    pairs = re.findall(rb"([^=&]+)=([^&]*)", raw)
    return {name.decode(): value.decode() for name, value in pairs}
