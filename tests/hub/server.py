"""A model hub of one's own: the small part of the Hub's HTTP interface that pushing uses, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OWNER = "somebody"
TOKEN = "hf_right"


@dataclass
class Commit:
    """One commit: where it went, what it says, and the files that it brought."""

    branch: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """What a repository has."""

    private: bool = False
    branches: set[str] = field(default_factory=lambda: {"main"})
    commits: list[Commit] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by hash

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """The content of a branch."""
        return {n: c for commit in self.commits if commit.branch == branch for n, c in commit.files.items()}

    def messages(self) -> list[str]:
        """What the commits say, in order."""
        return [commit.message for commit in self.commits]


class FakeHub:
    """The server's state, and what tests ask of it.

    Attributes:
        failing: how many of the next commits are refused with status 403 (which nobody tries again).
        gate: commits wait until it is set.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.failing = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, value: Any, status: int = 200, error: str | None = None) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if error is not None:
            self.send_header("X-Error-Message", error)
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status: int, error: str) -> None:
        self.answer({"error": error}, status, error)

    def do_PUT(self) -> None:
        _, _, name, oid = self.path.split("~")
        data = self.body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.hub.repositories[name].objects[oid] = data
        self.answer({})

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").partition("/revision")[0]
        self.answer({"id": name, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        data = self.body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "Invalid credentials")
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, self.path.partition("?")[0])
            if match:
                return method(self, data, *match.groups())
        return self.refuse(404, f"no such address: {self.path}")

    def create(self, data: bytes) -> None:
        wanted = json.loads(data)
        name = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        status = 409 if name in self.hub.repositories else 200
        self.hub.repositories.setdefault(name, Repository(wanted.get("visibility") == "private"))
        self.answer({"url": f"{self.hub.url}/{name}", "name": name}, status)

    def branch(self, data: bytes, name: str, branch: str) -> None:
        status = 409 if branch in self.hub.repositories[name].branches else 200
        self.hub.repositories[name].branches.add(branch)
        self.answer({}, status)

    def whoami(self, data: bytes) -> None:
        self.answer({"name": OWNER, "type": "user"})

    def validate(self, data: bytes) -> None:
        self.answer({"errors": [], "warnings": []})

    def preupload(self, data: bytes, name: str, branch: str) -> None:
        if branch not in self.hub.repositories[name].branches:
            return self.refuse(404, "Invalid rev id")
        files = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith((".safetensors", ".pt", ".bin")) else "regular",
                "shouldIgnore": False,
            }
            for entry in json.loads(data)["files"]
        ]
        return self.answer({"files": files})

    def lfs(self, data: bytes, name: str) -> None:
        objects = [
            {
                **entry,
                "actions": {"upload": {"href": f"{self.hub.url}/~upload~{name}~{entry['oid']}"}},
            }
            for entry in json.loads(data)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, data: bytes, name: str, branch: str) -> None:
        self.hub.waiting.set()
        self.hub.gate.wait()
        if self.hub.failing:
            self.hub.failing -= 1
            return self.refuse(403, "The disk of the hub is full")
        repository = self.hub.repositories[name]
        lines = [json.loads(line) for line in data.splitlines()]
        commit = Commit(branch, next(x["value"]["summary"] for x in lines if x["key"] == "header"), {})
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                commit.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                commit.files[value["path"]] = repository.objects[value["oid"]]
        repository.commits.append(commit)
        oid = f"{len(repository.commits):040x}"
        return self.answer(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}
        )


ROUTES = (
    (r"/api/repos/create", Handler.create),
    (r"/api/whoami-v2", Handler.whoami),
    (r"/api/validate-yaml", Handler.validate),
    (r"/api/models/(.+)/branch/(\w+)", Handler.branch),
    (r"/api/models/(.+)/preupload/(\w+)", Handler.preupload),
    (r"/(.+)\.git/info/lfs/objects/batch", Handler.lfs),
    (r"/api/models/(.+)/commit/(\w+)", Handler.commit),
)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that answers while the block runs."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = hub
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
