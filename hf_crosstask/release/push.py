"""Pushing a bundle to the Hub: one atomic commit, tried again where the network or the Hub fails.

Nothing of a release shows before its one commit: large files are uploaded first, and belong to nothing until the commit
names them. Each attempt commits onto the state it has just read (`parent_commit`), so that an attempt whose answer was lost
is recognised by the next one, which finds every file in place and commits nothing.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_crosstask.errors import CrosstaskError, InputError
from hf_crosstask.release.bundle import MANIFEST, Bundle

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds
_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN to a token with write access (https://huggingface.co/settings/tokens)"
_CONFLICTS = (409, 412)  # somebody else committed in between: read again, try again


class PushError(CrosstaskError):
    """The Hub could not be reached, or kept failing; what it holds is as it was, or complete."""


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        url: of the repository.
        commit: the commit that holds the release.
        changed: whether this push made it; False where every file was there already.
        private: whether the repository is.
        collection: URL of the collection it was put in.
    """

    url: str
    commit: str
    changed: bool
    private: bool
    collection: str | None = None


@dataclass(frozen=True)
class Visibility:
    """Who may see a release.

    Attributes:
        private: what was asked for; None: private where there are `reasons`, else public.
        reasons: task to why its corpus keeps a release private.
    """

    private: bool | None
    reasons: Mapping[str, tuple[str, ...]]

    @property
    def wanted(self) -> bool:
        return bool(self.reasons) if self.private is None else self.private


class Hub:
    """The Hub as a release uses it: calls that are repeated where repeating can help, and errors a user can act on.

    Args:
        api: the client; None: the usual endpoint and token.
        wait: sleeps between attempts.
    """

    def __init__(self, api: HfApi | None = None, *, wait: Callable[[float], None] = time.sleep):
        from huggingface_hub import HfApi

        self.api = api or HfApi()
        self._wait = wait

    def user(self) -> str:
        """Who is logged in.

        Raises:
            InputError: nobody, or the token is not valid.
            PushError: the Hub cannot be reached.
        """
        return str(self._call("asking who is logged in", self.api.whoami)["name"])

    def push(
        self,
        bundle: Bundle,
        repo: str,
        *,
        visibility: Visibility,
        message: str,
        revision: str | None = None,
        collection: str | None = None,
    ) -> Pushed:
        """Push a bundle as one commit.

        Args:
            bundle: the files, checked to hold no secrets here once more, with the token in use.
            repo: `user/name` (or `name`, of who is logged in); made if need be.
            visibility: of a repository that is made; that of one that exists is never changed.
            message: of the commit.
            revision: a branch, made if need be; None: main.
            collection: title of a collection to put the repository in, made if need be.

        Raises:
            InputError: the token, the name, the metadata or the repository's visibility is not right.
            PushError: the Hub cannot be reached or keeps failing.
        """
        from huggingface_hub import get_token

        token = self.api.token if isinstance(self.api.token, str) else get_token()
        bundle.refuse_secrets(token)
        user = self.user()
        repo = repo if "/" in repo else f"{user}/{repo}"
        private = self._open(repo, visibility)
        branch = revision or "main"
        if revision is not None:
            self._call("making the branch", lambda: self.api.create_branch(repo, branch=revision, exist_ok=True))
        before: list[str] = []
        commit = self._call("committing", lambda: self._commit(bundle, repo, branch, message, before))
        url = f"{self.api.endpoint}/{repo}"
        put_in = self._collect(repo, collection, private=private) if collection else None
        return Pushed(url, commit, changed=commit != before[0], private=private, collection=put_in)

    def _open(self, repo: str, visibility: Visibility) -> bool:
        """Make the repository if there is none; whether it is private."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def look() -> bool | None:
            try:
                return bool(self.api.model_info(repo).private)
            except RepositoryNotFoundError:
                return None

        private = self._call("looking for the repository", look)
        if private is None:
            wanted = visibility.wanted
            self._call("making the repository", lambda: self.api.create_repo(repo, private=wanted, exist_ok=True))
            private = self._call("looking for the repository", look)
            if private is None:
                raise PushError(f"{repo}: the Hub made the repository but does not find it; release again in a moment")
        if visibility.wanted and not private:
            why = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in visibility.reasons.items())
            asked = "--private was asked for" if visibility.private else f"corpora are restricted ({why})"
            raise InputError(
                f"{repo} is public, but {asked}. Nothing was pushed. Make the repository private on its settings page, "
                "choose another one, or, if the corpora's terms allow it, say --public"
            )
        return private

    def _commit(self, bundle: Bundle, repo: str, branch: str, message: str, before: list[str]) -> str:
        """One attempt, onto the branch as it is now. `before` gets the state that the first attempt found."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        head = str(self.api.model_info(repo, revision=branch).sha)
        before.append(head)
        operations: list[Any] = [
            CommitOperationAdd(
                path_in_repo=path, path_or_fileobj=content if isinstance(content, bytes) else str(content)
            )
            for path, content in bundle.files.items()
        ]
        operations += [
            CommitOperationDelete(path_in_repo=path)
            for path in self._released_files(repo, head)
            if path not in bundle.files
        ]
        done = self.api.create_commit(repo, operations, commit_message=message, revision=branch, parent_commit=head)
        return str(done.oid)

    def _released_files(self, repo: str, commit: str) -> list[str]:
        """The files of the release that a commit holds; none where it holds none. Only these may be replaced."""
        from huggingface_hub.errors import EntryNotFoundError

        there = set(self.api.list_repo_files(repo, revision=commit))
        if MANIFEST not in there:
            return []
        try:
            path = self.api.hf_hub_download(repo, MANIFEST, revision=commit)
            files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
        except (EntryNotFoundError, json.JSONDecodeError, KeyError):
            return []
        return [file for file in files if file in there]

    def _collect(self, repo: str, title: str, *, private: bool) -> str | None:
        """Put the repository in a collection of its owner."""
        owner = repo.split("/")[0]

        def collect() -> str:
            made = self.api.create_collection(title, namespace=owner, private=private, exists_ok=True)
            self.api.add_collection_item(made.slug, item_id=repo, item_type="model", exists_ok=True)
            return str(made.url)

        return self._call("adding to the collection (the release itself is complete)", collect)

    def _call(self, doing: str, call: Callable[[], T]) -> T:
        """A call, repeated with growing waits where that can help."""
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

        http_error: Any = HfHubHTTPError.__bases__[0]  # of the HTTP library that this huggingface_hub uses
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except LocalTokenNotFoundError:
                raise InputError(f"nobody is logged in to the Hub. {_LOG_IN}") from None
            except OfflineModeIsEnabled:
                raise InputError("a release needs the network, but HF_HUB_OFFLINE is set; unset it") from None
            except (http_error, OSError, RuntimeError, ValueError) as error:  # what the client raises, and as cause
                cause = _http_cause(error, http_error)
                if cause is None:
                    raise
                status = _status(cause)
                if status in (401, 403):
                    raise InputError(_refused(doing, status, cause)) from None
                if not _passes(cause, status):
                    raise InputError(f"{doing}: the Hub says {_first_line(cause)}") from None
                if attempt + 1 == ATTEMPTS:
                    raise PushError(
                        f"{doing}: the Hub failed {ATTEMPTS} times, at last with: {_first_line(cause)}. The repository is "
                        "as it was, or complete. The same command again finishes the release, or finds it finished"
                    ) from None
                self._wait(_pause(attempt, cause))
        raise AssertionError("unreachable")


def _http_cause(error: BaseException, http_error: type[BaseException]) -> BaseException | None:
    """The failed request behind an error of the client, or an error that stands for one; None where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (http_error, json.JSONDecodeError, ConnectionError)):
            return seen
        if isinstance(seen, ValueError) and "Invalid metadata in README.md" in str(seen):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _passes(error: BaseException, status: int | None) -> bool:
    """Whether the failure may pass: a dropped connection, an overloaded or failing Hub, another commit in between."""
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return False  # metadata that the Hub does not take
    return status is None or status >= 500 or status in (408, 425, 429, *_CONFLICTS)


def _pause(attempt: int, error: BaseException) -> float:
    """Seconds to wait: what the Hub asks for, else growing, with some chance so that clients do not come back together."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    if asked.isdigit():
        return min(float(asked), _LONGEST_WAIT)
    return min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.75, 1.25)


def _refused(doing: str, status: int | None, error: BaseException) -> str:
    if status == 401:
        return f"{doing}: the Hub does not accept the token. {_LOG_IN}"
    return f"{doing}: the token may not do this ({_first_line(error)}). {_LOG_IN}"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "server_message", None) or str(error)
    lines = [line for line in str(text).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
