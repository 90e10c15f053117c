"""A Hugging Face Hub on this machine, for the unmodified `huggingface_hub` client: real history, real LFS, real failures.

It speaks what a release needs: who am I, make a repository, look at it, branches, metadata checks, preupload, LFS batch and
upload, one commit with its parent checked, files with ETag and commit headers, collections. `Hub.fail` makes a call fail as
a real Hub fails: an error status, a connection dropped before or after the server did its work.

By hand: `python tests/release/local_hub.py 8123`; it prints the environment that points a client to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN, USER = "hf_valid", "me"
_LARGE = (".safetensors", ".bin", ".onnx", ".parquet", ".model")
_LICENCES = {
    "mit",
    "apache-2.0",
    "cc-by-4.0",
    "cc-by-3.0",
    "cc-by-nc-4.0",
    "cc0-1.0",
    "gpl-3.0",
    "llama3.1",
    "gemma",
    "other",
}
_TASKS = {
    "token-classification",
    "text-classification",
    "text-generation",
    "text-ranking",
    "sentence-similarity",
    "multiple-choice",
}
_NAME = re.compile(r"^(?:[\w-]+/)?[\w.-]+$")
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Blob:
    """A file of a commit; `lfs` is the SHA-256 of a large one."""

    content: bytes
    lfs: str | None

    @property
    def oid(self) -> str:
        """The id git gives it: of the pointer, for a large file."""
        data = self.content
        if self.lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.lfs}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.branches["main"] = self.add(None, "initial commit", {})

    def add(self, parent: str | None, title: str, files: dict[str, Blob]) -> str:
        record = [
            self.name,
            parent,
            title,
            len(self.commits),
            sorted((path, blob.oid) for path, blob in files.items()),
        ]
        oid = hashlib.sha1(json.dumps(record).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, files)
        return oid

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class Failure:
    """A call that fails: a status, or the connection dropped `before` or `after` the server did what was asked."""

    method: str
    path: re.Pattern[str]
    how: int | str
    times: int
    headers: dict[str, str]


class HubError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Hub:
    """The server's state, and its switch."""

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[str, str, int | str]] = []
        self.received: list[bytes] = []  # every request body, to search for what should never be sent
        self.failures: list[Failure] = []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, path: str, how: int | str, *, times: int = 10**6, **headers: str) -> None:
        """Make the next calls fail: `how` is a status, `before` or `after`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(Failure(method, re.compile(path), how, times, named))

    def state(self) -> dict[str, Any]:
        """Everything visible: repositories, branches and the files of their heads."""
        with self.lock:
            return {
                name: (
                    repo.private,
                    {
                        branch: (oid, {path: blob.oid for path, blob in repo.commits[oid].files.items()})
                        for branch, oid in repo.branches.items()
                    },
                )
                for name, repo in self.repos.items()
            }

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch."""
        head = self.repos[repo].find(branch)
        assert head is not None
        return {path: blob.content for path, blob in head.files.items()}

    def next_failure(self, method: str, path: str) -> Failure | None:
        for failure in self.failures:
            if failure.times > 0 and failure.method == method and failure.path.search(path):
                failure.times -= 1
                return failure
        return None


def check_metadata(content: str) -> list[str]:
    """What the real Hub says of a model card's metadata, as far as it is documented."""
    match = re.match(r"^---\n(.*?)\n---(\n|$)", content, re.DOTALL)
    if match is None:
        return ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(match.group(1))
    except yaml.YAMLError as error:
        return [f"invalid yaml: {error}"]
    problems = []

    def names(key: str) -> list[Any]:
        value = data.get(key, [])
        return value if isinstance(value, list) else [value]

    if data.get("license") not in _LICENCES:
        problems.append(f'"license" must be one of {sorted(_LICENCES)}')
    if data.get("license") == "other" and not data.get("license_name"):
        problems.append('"license_name" is required with "other"')
    if data.get("license_link") and not re.match(r"^(https?://|LICENSE(\.md)?$)", data["license_link"]):
        problems.append('"license_link" must be a URL, LICENSE or LICENSE.md')
    for key in ("base_model", "datasets"):
        problems += [f'"{key}" {name!r} is no valid id' for name in names(key) if not _NAME.match(str(name))]
    problems += [
        f'"language" {code!r} is no code' for code in names("language") if not re.match(r"^[a-z]{2,3}$", str(code))
    ]
    if data.get("pipeline_tag") not in _TASKS:
        problems.append(f'"pipeline_tag" {data.get("pipeline_tag")!r} is unknown')
    if not all(isinstance(tag, str) for tag in names("tags")) or not isinstance(data.get("library_name"), str):
        problems.append('"tags" and "library_name" must be strings')
    for model in names("model-index"):
        for result in model["results"]:
            whole = result["task"].get("type") and result["dataset"].get("type") and result["dataset"].get("name")
            if not model.get("name") or not whole or not result["metrics"]:
                problems.append('"model-index" lacks a task, a dataset or metrics')
            problems += [
                f'"model-index" metric {metric} lacks type or value'
                for metric in result["metrics"]
                if not metric.get("type") or not isinstance(metric.get("value"), (int, float, str))
            ]
    return problems


Answer = tuple[int, dict[str, str], Any]
_ROUTES: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., Answer]]] = []
_REPO = r"(?P<name>[^/]+/[^/]+?)"


def _route(methods: str, pattern: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        _ROUTES.append((tuple(methods.split()), re.compile(f"^{pattern}$"), function))
        return function

    return register


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement
    wbufsize = -1
    hub: ClassVar[Hub]

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.body = self._read_body()
        with self.hub.lock:
            self.hub.received.append(self.body)
            failure = self.hub.next_failure(self.command, path)
            if failure is not None and failure.how != "after":
                self.hub.log.append((self.command, path, failure.how))
                if failure.how == "before":
                    self._drop()
                else:
                    self._send(int(failure.how), failure.headers, {"error": "injected"})
                return
            status, headers, content = self._answer(path)
            self.hub.log.append((self.command, path, "after" if failure else status))
        if failure is not None:
            self._drop()
        else:
            self._send(status, headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, path: str) -> Answer:
        try:
            token = self.headers.get("Authorization")
            if token not in (None, f"Bearer {TOKEN}"):
                raise HubError(401, "Invalid credentials in Authorization header")
            for methods, pattern, function in _ROUTES:
                match = pattern.match(path)
                if match and self.command in methods:
                    return function(self, **match.groupdict())
            raise HubError(404, f"no route {self.command} {path}")
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            return error.status, headers, {"error": error.message}

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, headers: dict[str, str], content: Any) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def logged_in(self) -> None:
        if self.headers.get("Authorization") is None:
            raise HubError(401, "Invalid username or password.")

    def repo(self, name: str) -> Repo:
        found = self.hub.repos.get(name)
        if found is None or (found.private and self.headers.get("Authorization") is None):
            raise HubError(404, "Repository not found", "RepoNotFound")
        return found

    def commit(self, name: str, revision: str) -> tuple[Repo, Commit]:
        repo = self.repo(name)
        commit = repo.find(revision.removeprefix("refs/heads/"))
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit

    def json(self) -> Any:
        return json.loads(self.body)


@_route("GET", "/api/whoami-v2")
def _whoami(h: _Handler) -> Answer:
    h.logged_in()
    return (
        200,
        {},
        {"type": "user", "name": USER, "fullname": "Me", "orgs": [], "auth": {"accessToken": {"role": "write"}}},
    )


@_route("POST", "/api/validate-yaml")
def _validate(h: _Handler) -> Answer:
    problems = check_metadata(h.json()["content"])
    errors = [{"message": problem} for problem in problems]
    return (400 if errors else 200), {}, {"errors": errors, "warnings": []}


@_route("POST", "/api/repos/create")
def _create(h: _Handler) -> Answer:
    h.logged_in()
    asked = h.json()
    name = f"{asked.get('organization') or USER}/{asked['name']}"
    if not name.startswith(f"{USER}/"):
        raise HubError(403, f"You don't have the rights to create a model under the namespace {name.split('/')[0]!r}")
    url = {"url": f"{h.hub.url}/{name}", "name": name, "id": name}
    if name in h.hub.repos:
        return 409, {}, {"error": "You already created this model repo", **url}
    h.hub.repos[name] = Repo(name, asked.get("visibility") == "private" or asked.get("private") is True)
    return 200, {}, url


@_route("GET", f"/api/models/{_REPO}")
def _main(h: _Handler, name: str) -> Answer:
    return _info(h, name, "main")


@_route("GET", f"/api/models/{_REPO}/revision/(?P<revision>.+)")
def _info(h: _Handler, name: str, revision: str) -> Answer:
    repo, commit = h.commit(name, revision)
    files = [{"rfilename": path} for path in sorted(commit.files)]
    card = commit.files.get("README.md")
    header = re.match(r"^---\n(.*?)\n---\n", card.content.decode(), re.DOTALL) if card else None
    data = yaml.safe_load(header.group(1)) if header else {}
    about = {
        "id": name,
        "modelId": name,
        "sha": commit.oid,
        "private": repo.private,
        "siblings": files,
        "cardData": data,
    }
    return 200, {}, {"tags": data.get("tags", []), "createdAt": _DATE, "lastModified": _DATE, "downloads": 0, **about}


@_route("GET", f"/api/models/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
def _tree(h: _Handler, name: str, revision: str, folder: str | None) -> Answer:
    _, commit = h.commit(name, revision)
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    entries = []
    for path, blob in sorted(commit.files.items()):
        if path.startswith(prefix):
            entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.content)}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.lfs, "size": len(blob.content), "pointerSize": 134}
            entries.append(entry)
    if prefix and not entries:
        raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    return 200, {}, entries


@_route("POST", f"/api/models/{_REPO}/branch/(?P<branch>.+)")
def _branch(h: _Handler, name: str, branch: str) -> Answer:
    h.logged_in()
    repo = h.repo(name)
    if branch in repo.branches:
        return 409, {}, {"error": "Reference already exists"}
    repo.branches[branch] = repo.branches["main"]
    return 200, {}, {}


@_route("POST", f"/api/models/{_REPO}/preupload/(?P<revision>.+)")
def _preupload(h: _Handler, name: str, revision: str) -> Answer:
    h.logged_in()
    _, commit = h.commit(name, revision)
    files = []
    for file in h.json()["files"]:
        old = commit.files.get(file["path"])
        mode = "lfs" if file["path"].endswith(_LARGE) else "regular"
        oid = (old.lfs or old.oid) if old else None
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return 200, {}, {"files": files, "commitOid": commit.oid}


@_route("POST", f"/{_REPO}\\.git/info/lfs/objects/batch")
def _batch(h: _Handler, name: str) -> Answer:
    h.logged_in()
    h.repo(name)
    objects = []
    for asked in h.json()["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"], "authenticated": True}
        if asked["oid"] not in h.hub.lfs:
            answer["actions"] = {"upload": {"href": f"{h.hub.url}/lfs/{asked['oid']}", "header": {}}}
        objects.append(answer)
    return 200, {"Content-Type": "application/vnd.git-lfs+json"}, {"transfer": "basic", "objects": objects}


@_route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
def _upload(h: _Handler, oid: str) -> Answer:
    if hashlib.sha256(h.body).hexdigest() != oid:
        raise HubError(400, "the content does not have this SHA-256")
    h.hub.lfs[oid] = h.body
    return 200, {}, {}


@_route("POST", f"/api/models/{_REPO}/commit/(?P<branch>.+)")
def _commit(h: _Handler, name: str, branch: str) -> Answer:
    h.logged_in()
    repo, head = h.commit(name, branch)
    files, title = dict(head.files), ""
    for line in h.body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "header":
            title = value["summary"]
            if value.get("parentCommit") not in (None, head.oid):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
        elif entry["key"] == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]), None)
        elif entry["key"] == "lfsFile":
            if value["oid"] not in h.hub.lfs:
                raise HubError(400, f"LFS object {value['oid']} was not uploaded")
            files[value["path"]] = Blob(h.hub.lfs[value["oid"]], value["oid"])
        elif entry["key"] == "deletedFile":
            del files[value["path"]]
        else:
            raise HubError(400, f"unknown operation {entry['key']}")
    oid = repo.branches[branch] = repo.add(head.oid, title, files)
    return (
        200,
        {},
        {"success": True, "commitOid": oid, "commitUrl": f"{h.hub.url}/{name}/commit/{oid}", "hookOutput": ""},
    )


@_route("GET HEAD", f"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def _resolve(h: _Handler, name: str, revision: str, path: str) -> Answer:
    _, commit = h.commit(name, revision)
    blob = commit.files.get(path)
    if blob is None:
        raise HubError(404, f"{path} does not exist", "EntryNotFound")
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.lfs or blob.oid}"', "Accept-Ranges": "bytes"}
    if blob.lfs:
        headers |= {"X-Linked-ETag": f'"{blob.lfs}"', "X-Linked-Size": str(len(blob.content))}
    return 200, headers, blob.content


@_route("POST", "/api/collections")
def _collection(h: _Handler) -> Answer:
    h.logged_in()
    asked = h.json()
    slug = f"{asked['namespace']}/{re.sub(r'[^a-z0-9]+', '-', asked['title'].lower())}-{'0' * 24}"
    made = {"slug": slug, "title": asked["title"], "private": asked["private"], "items": [], "lastUpdated": _DATE}
    if slug in h.hub.collections:
        return 409, {}, {"error": "exists", "slug": slug}
    h.hub.collections[slug] = made | {"owner": {"name": USER}, "position": 0, "theme": "blue", "upvotes": 0}
    return 200, {}, h.hub.collections[slug]


@_route("GET", "/api/collections/(?P<slug>.+)")
def _read_collection(h: _Handler, slug: str) -> Answer:
    return 200, {}, h.hub.collections[slug]


@_route("POST", "/api/collections/(?P<slug>.+)/items")
def _add_item(h: _Handler, slug: str) -> Answer:
    h.logged_in()
    items, item = h.hub.collections[slug]["items"], h.json()["item"]
    if any(each["id"] == item["id"] for each in items):
        return 409, {}, {"error": "already there"}
    items.append({"_id": "0", "id": item["id"], "type": item["type"], "position": len(items)})
    return 200, {}, h.hub.collections[slug]


if __name__ == "__main__":
    running = Hub(int(sys.argv[1]) if len(sys.argv) > 1 else 8123)
    print(f"HF_ENDPOINT={running.url} HF_HUB_DISABLE_XET=1 HF_TOKEN={TOKEN}", flush=True)
    threading.Event().wait()
