"""Google Cloud Storage on this machine: as much of it as Google's client asks for."""

from __future__ import annotations

import base64
import email
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import google_crc32c

_OBJECTS = re.compile(r"(?:/upload|/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?")
_COPY = re.compile(r"(.+)/copyTo/b/([^/]+)/o/(.+)")
_MISSING = 404, {"error": {"code": 404, "message": "No such object"}}


class Storage:
    """Objects by their `gs://` names, which a server on loopback hands out."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        self._numbers = itertools.count(1)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        """Returns the status of a request, with JSON or bytes."""
        path, _, query = target.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        found = _OBJECTS.fullmatch(urllib.parse.unquote(path))
        if not found:
            return 200, {"name": "bucket", "softDeletePolicy": {"retentionDurationSeconds": "0"}}
        bucket, name = found.groups()
        with self._lock:
            if name is None:
                start = f"gs://{bucket}/{asked.get('prefix', '')}"
                names = sorted(own for own in self.objects if own.startswith(start))
                return 200, {"items": [_described(own, self.objects[own]) for own in names]}
            copy = _COPY.fullmatch(name)
            own = f"gs://{bucket}/{copy[1] if copy else name}"
            if own not in self.objects:
                return _MISSING
            content = self.objects[own]
            if method == "DELETE":
                del self.objects[own]
                return 204, b""
            if copy:
                own = f"gs://{copy[2]}/{copy[3]}"
                self.objects[own] = content
            return 200, content if asked.get("alt") == "media" else _described(own, content)

    def begin_upload(self, target: str, body: bytes) -> str:
        """Returns the path that takes the content of an upload."""
        bucket = _OBJECTS.match(target)[1]
        asked = dict(urllib.parse.parse_qsl(target.partition("?")[2]))
        path = f"/upload/{next(self._numbers)}"
        name = asked.get("name") or json.loads(body)["name"]
        self._uploads[path] = f"gs://{bucket}/{name}", bytearray()
        return path

    def upload(self, path: str, content: bytes, is_last: bool) -> dict[str, str]:
        """Takes some of an upload's content. Returns what the object is like so far."""
        name, received = self._uploads[path]
        received.extend(content)
        if is_last:
            with self._lock:
                self.objects[name] = bytes(received)
        return _described(name, received)


def _described(name: str, content: bytes) -> dict[str, str]:
    bucket, _, own = name.removeprefix("gs://").partition("/")
    checksum = google_crc32c.Checksum(bytes(content)).digest()
    return {
        "bucket": bucket,
        "name": own,
        "size": str(len(content)),
        "crc32c": base64.b64encode(checksum).decode(),
        "generation": "1",
        "updated": "2026-01-01T00:00:00.000Z",
    }


def _handler(storage: Storage) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content = storage.answer("GET", self.path)
            if status != 200 or not (span := self.headers.get("Range")):
                return self._send(status, content)
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", span).groups()
            part = content[int(first) : int(last) + 1 if last else None]
            if not part:
                return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            return self._send(206, part, {"Content-Range": span})

        def do_DELETE(self) -> None:
            self._send(*storage.answer("DELETE", self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/batch/"):
                self._send(200, *self._batch(body))
            elif "uploadType=resumable" in self.path:
                session = storage.url + storage.begin_upload(self.path, body)
                self._send(200, b"", {"Location": session})
            else:
                self._send(*storage.answer("POST", self.path))

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            is_last = not self.headers["Content-Range"].endswith("/*")
            described = storage.upload(self.path, content, is_last)
            if is_last:
                return self._send(200, described)
            return self._send(308, b"", {"Range": f"bytes=0-{int(described['size']) - 1}"})

        def _batch(self, body: bytes) -> tuple[bytes, dict[str, str]]:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = []
            for part in email.message_from_bytes(head + body).get_payload():
                method, target, _ = part.get_payload().split(" ", 2)
                url = urllib.parse.urlsplit(target)
                status, content = storage.answer(method, f"{url.path}?{url.query}")
                parts.append(
                    f"--part\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status} Said\r\n"
                    f"Content-Type: application/json\r\n\r\n"
                    f"{json.dumps(content) if content else ''}\r\n"
                )
            headers = {"Content-Type": 'multipart/mixed; boundary="part"'}
            return "".join([*parts, "--part--"]).encode(), headers

        def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            given = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, value in {**given, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Storage]:
    """Serves what is in a new `Storage`, within `with`."""
    storage = Storage()
    thread = threading.Thread(target=storage.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        storage.server.shutdown()
        storage.server.server_close()
        thread.join()


def credentials() -> str:
    """Returns credentials that nobody asks Google about, as the JSON of a file."""
    names = ("client_id", "client_secret", "refresh_token", "token", "quota_project_id")
    lasts = {"expiry": "2999-01-01T00:00:00Z"}
    return json.dumps({"type": "authorized_user", **dict.fromkeys(names, "tests"), **lasts})
