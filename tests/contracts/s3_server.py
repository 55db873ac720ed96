"""An S3 server in a process of its own: moto's, with faults on request.

Run as ``python -m tests.contracts.s3_server``: it prints its port. ``PUT /_fault`` with a JSON object makes the next
``count`` requests whose method and path match be answered with ``status``, or not at all (``status`` 0).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.distributed.launch import REPOSITORY, child_environment

Start = Callable[..., Any]


class Faults:
    """Moto's application behind a door that can be shut."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application
        self.lock = threading.Lock()
        self.fault: dict[str, Any] = {"count": 0}
        self.met = 0

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_fault":
            return self.control(environ, start)
        with self.lock:
            hit = self.fault["count"] > 0 and self.matches(environ)
            if hit:
                self.fault["count"] -= 1
                self.met += 1
        if not hit:
            return self.application(environ, start)
        while self.fault["status"] == 0:  # until another fault, or none, is asked for
            time.sleep(0.01)
        start(f"{self.fault['status']} Fault", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{self.fault['code']}</Code><Message>a fault</Message></Error>".encode()]

    def matches(self, environ: dict[str, Any]) -> bool:
        methods = self.fault["method"].split()
        return environ["REQUEST_METHOD"] in methods and self.fault["path"] in environ["PATH_INFO"]

    def control(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            length = int(environ["CONTENT_LENGTH"])
            with self.lock:
                self.fault, self.met = json.loads(environ["wsgi.input"].read(length)), 0
        start("200 OK", [])
        return [str(self.met).encode()]


class Server:
    """The server, as a test sees it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def fault(
        self, count: int, path: str = "", method: str = "PUT POST", status: int = 500, code: str = "X"
    ) -> None:
        """The next ``count`` such requests fail, or hang with status 0."""
        body = {"count": count, "path": path, "method": method, "status": status, "code": code}
        self._ask(json.dumps(body).encode())

    def met(self) -> int:
        """How many requests have met the fault."""
        return int(self._ask(None))

    def _ask(self, body: bytes | None) -> bytes:
        request = urllib.request.Request(
            f"{self.endpoint}/_fault", data=body, method="GET" if body is None else "PUT"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())


@contextmanager
def running() -> Iterator[Server]:
    """A server of its own, ended afterwards."""
    command = [sys.executable, "-m", "tests.contracts.s3_server"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            port = int(process.stdout.readline())
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Serve until killed."""
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    application = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
