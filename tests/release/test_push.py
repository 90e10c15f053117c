"""One commit or none, whatever fails; and only what belongs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from local_hub import TOKEN

from hf_crosstask import cli
from hf_crosstask.errors import InputError
from hf_crosstask.recipe import load_recipe
from hf_crosstask.release.bundle import Bundle, collect, open_run
from hf_crosstask.release.command import Request, check_login, prepare
from hf_crosstask.release.command import release as release_run
from hf_crosstask.release.push import ATTEMPTS, Hub, Pushed, PushError, Visibility
from hf_crosstask.release.secret_scan import find_secrets

PLANTED = "hf_" + "PlAnTeD0" * 4 + "ab"  # of a token's form, and nobody's
OPEN = Visibility(None, {})


@pytest.fixture
def bundle() -> Bundle:
    """A small release with files of both kinds: in the commit itself, and large ones apart from it."""
    card = "---\nlicense: mit\nlibrary_name: peft\npipeline_tag: text-classification\n---\n# card\n"
    files = {"README.md": card.encode(), "adapter_model.safetensors": b"weights", "heads/a.safetensors": b"head"}
    manifest = {"version": 1, "files": [*files, "release.json"]}
    return Bundle({**files, "release.json": json.dumps(manifest).encode()})


@pytest.fixture
def push(hub):
    waits: list[float] = []

    def run(bundle: Bundle, repo: str = "me/model", **more) -> Pushed:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        return Hub(api, wait=waits.append).push(bundle, repo, **{"visibility": OPEN, "message": "Release"} | more)

    run.waits = waits
    return run


def test_a_release_is_one_commit_and_the_same_again_is_none(hub, push, bundle) -> None:
    pushed = push(bundle)
    assert (pushed.changed, pushed.private, pushed.url) == (True, False, f"{hub.url}/me/model")
    assert hub.files("me/model") == bundle.files
    assert len(hub.repos["me/model"].commits) == 2  # the Hub's own first one, and the release
    again = push(bundle)
    assert (again.changed, again.commit) == (False, pushed.commit)
    assert len(hub.repos["me/model"].commits) == 2


def test_files_of_an_earlier_release_go_and_files_of_others_stay(hub, push, bundle) -> None:
    push(bundle)
    HfApi(endpoint=hub.url, token=TOKEN).upload_file(
        path_or_fileobj=b"mine", path_in_repo="heads/notes.txt", repo_id="me/model"
    )
    files = {path: content for path, content in bundle.files.items() if path != "heads/a.safetensors"}
    push(Bundle(files))
    assert set(hub.files("me/model")) == {*files, "heads/notes.txt"}


CALLS = [
    ("GET", "whoami"),
    ("GET", "^/api/models/me/model"),
    ("POST", "validate-yaml"),
    ("POST", "preupload"),
    ("POST", "objects/batch"),
    ("PUT", "^/lfs/"),
    ("POST", "/commit/"),
]
KINDS = [503, "before"]
DONE_BUT_UNHEARD = [("PUT", "^/lfs/", "after"), ("POST", "/commit/", "after")]


@pytest.mark.parametrize(
    ("method", "path", "how"), [*((*call, how) for call in CALLS for how in KINDS), *DONE_BUT_UNHEARD]
)
def test_a_failure_that_passes_leaves_one_complete_release(hub, push, bundle, method, path, how) -> None:
    hub.fail(method, path, how, times=2)
    pushed = push(bundle)
    assert any(entry[2] == how for entry in hub.log)  # it did fail
    assert hub.files("me/model") == bundle.files
    assert hub.repos["me/model"].branches["main"] == pushed.commit
    assert len(hub.repos["me/model"].commits) == 2


@pytest.mark.parametrize(
    ("method", "path", "how"), [*((*call, how) for call in CALLS for how in KINDS), *DONE_BUT_UNHEARD]
)
def test_a_failure_that_stays_leaves_the_repository_as_it_was_or_complete(
    hub, push, bundle, method, path, how
) -> None:
    push(bundle)
    old, before = dict(bundle.files), hub.state()
    bundle.files["adapter_model.safetensors"] = b"better weights"
    bundle.files["heads/a.safetensors"] = b"better head"
    hub.fail(method, path, how)
    if how == "after":  # the server had done it, which the next attempt finds
        assert push(bundle).changed
        assert hub.files("me/model") == bundle.files
    else:
        with pytest.raises(PushError, match="as it was, or complete"):
            push(bundle)
        assert len(push.waits) >= ATTEMPTS - 1
        assert hub.state() == before
    hub.failures.clear()
    push(bundle)
    assert hub.files("me/model") == bundle.files != old
    assert len(hub.repos["me/model"].commits) == 3


@pytest.mark.parametrize("how", [500, "before"])
def test_a_failure_before_the_first_commit_leaves_an_empty_repository_or_none(hub, push, bundle, how) -> None:
    hub.fail("POST", "repos/create", how)
    with pytest.raises(PushError):
        push(bundle)
    assert hub.state() == {}
    hub.failures.clear()
    hub.fail("PUT", "^/lfs/", how)
    with pytest.raises(PushError):
        push(bundle)
    assert hub.files("me/model") == {}


def test_it_waits_as_long_as_the_hub_asks(hub, push, bundle) -> None:
    hub.fail("POST", "/commit/", 429, times=2, Retry_After="17")
    push(bundle)
    assert push.waits == [17, 17]


def test_a_commit_of_somebody_else_in_between_is_kept(hub, push, bundle) -> None:
    push(bundle)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    original, meddled = api.create_commit, []

    def slow(*arguments, **named):
        if not meddled:
            meddled.append(1)
            api.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id="me/model")
        return original(*arguments, **named)

    other = HfApi(endpoint=hub.url, token=TOKEN)
    other.create_commit = slow
    bundle.files["heads/a.safetensors"] = b"better"
    Hub(other, wait=push.waits.append).push(bundle, "me/model", visibility=OPEN, message="Release")
    assert hub.files("me/model") == {**bundle.files, "theirs.txt": b"theirs"}
    assert 412 in [entry[2] for entry in hub.log]
    assert len(push.waits) == 1


def test_who_may_not_push_is_told_how_to_log_in(hub, bundle, monkeypatch) -> None:
    def attempt(token: str | None, repo: str = "me/model") -> str:
        with pytest.raises(InputError) as caught:
            Hub(HfApi(endpoint=hub.url, token=token)).push(bundle, repo, visibility=OPEN, message="Release")
        return str(caught.value)

    wrong = attempt("hf_wrong")
    assert "does not accept the token" in wrong
    assert "hf auth login" in wrong
    assert "hf_wrong" not in wrong
    assert "You don't have the rights" in attempt(TOKEN, "another/model")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent")
    assert "nobody is logged in" in attempt(None)
    assert hub.state() == {}


def test_metadata_that_the_hub_refuses_is_an_error_of_input(hub, push, bundle) -> None:
    bundle.files["README.md"] = b"---\nlicense: mine\n---\n"
    with pytest.raises(InputError, match="Invalid metadata"):
        push(bundle)
    assert hub.files("me/model") == {}


@pytest.mark.parametrize("place", ["README.md", "adapter_model.safetensors"])
def test_a_token_in_any_file_stops_the_release_before_anything_is_sent(hub, push, bundle, place) -> None:
    bundle.files[place] += f"\x00key {PLANTED}\x00".encode()
    with pytest.raises(InputError, match="a Hugging Face token") as caught:
        push(bundle)
    assert place in str(caught.value)
    assert PLANTED not in str(caught.value)
    assert hub.received == []


def test_the_token_in_use_is_found_whatever_its_form(hub, bundle, monkeypatch) -> None:
    bundle.files["labels.json"] = b'["my own secret sesame"]'
    with pytest.raises(InputError, match="secret of this machine"):
        bundle.refuse_secrets("secret sesame")
    monkeypatch.setenv("WANDB_API_KEY", "secret sesame")
    with pytest.raises(InputError, match=r"labels\.json"):
        bundle.refuse_secrets()


def test_a_secret_on_the_edge_of_two_chunks_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("hf_crosstask.release.secret_scan._CHUNK", 1024)
    for start in range(1024 - len(PLANTED), 1024 + 1):
        (tmp_path / "weights").write_bytes(b"\0" * start + PLANTED.encode() + b"\0" * 3000)
        assert find_secrets(tmp_path / "weights", frozenset()) == ["a Hugging Face token"]
    (tmp_path / "weights").write_bytes(b"hf_short" * 1000)
    assert find_secrets(tmp_path / "weights", frozenset()) == []


# The whole way, from a trained run


def test_only_what_belongs_leaves_the_machine(hub, released_run, tmp_path) -> None:
    run_dir = Path(shutil.copytree(released_run, tmp_path / "run"))
    for rubbish in ("adapters/shared/optimizer.pt", "heads/head.pkl", "adapters/.secret.json", "training_args.bin"):
        (run_dir / rubbish).write_bytes(b"no")
    (run_dir / "heads" / "link.json").symlink_to("/etc/hostname")
    assert any(run_dir.glob("checkpoint-*/optimizer.pt"))
    assert release_run(run_dir, Request("me/quick", collection="Quick study")) == 0
    files = hub.files("me/quick")
    assert {path.rsplit(".", 1)[-1] for path in files} == {"json", "safetensors", "md"}
    assert not [
        path for path in files if path.startswith(("checkpoint", "predictions")) or ".secret" in path or "link" in path
    ]
    for name in ("README.md", "LICENSE.md", "release.json", "result.json", "recipe.json", "plan.json"):
        assert name in files
    for path, content in files.items():
        assert str(tmp_path).encode() not in content, path
        assert str(released_run).encode() not in content, path
    assert (
        load_recipe(_write(tmp_path / "recipe.json", files["recipe.json"])).fingerprint()
        == json.loads(files["result.json"])["fingerprints"]["recipe"]
    )
    assert TOKEN.encode() not in b"".join(hub.received)
    assert [item["id"] for each in hub.collections.values() for item in each["items"]] == ["me/quick"]


def test_one_task_stands_at_the_root(released_run) -> None:
    _, bundle = prepare(released_run, Request("me/ner", task="synthetic_ner"))
    assert {"adapter_config.json", "adapter_model.safetensors", "labels.json", "README.md"} <= bundle.files.keys()
    assert not [path for path in bundle.files if path.startswith("adapters/")]
    _, bundle = prepare(released_run, Request("me/relation", task="synthetic_relation"))
    assert {"adapters/shared/adapter_model.safetensors", "heads/synthetic_relation.safetensors"} <= bundle.files.keys()
    assert "adapter_config.json" not in bundle.files


def test_restricted_corpora_stay_private_unless_told_otherwise(hub, push, released_run, capsys) -> None:
    run = open_run(released_run)
    closed = {name: card.model_copy(update={"access": "credentialed"}) for name, card in run.cards.items()}
    closed_run = replace(run, cards=closed)
    bundle = collect(closed_run, {}, licence="")
    reasons = {"synthetic_ner": ("credentialed",)}
    assert push(bundle, "me/closed", visibility=Visibility(None, reasons)).private is True
    push(bundle, "me/public")
    before = hub.state()
    for private, why in ((None, "restricted"), (True, "--private")):
        with pytest.raises(InputError, match=why):
            push(bundle, "me/public", visibility=Visibility(private, reasons))
    assert hub.state() == before
    assert push(bundle, "me/told", visibility=Visibility(False, reasons)).private is False
    assert not [path for path in bundle.files if path.startswith("predictions")]


def test_command_lines(hub, released_run, capsys, monkeypatch) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["release", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    code, out, _ = run(str(released_run), "--repo", "me/quick", "--dry-run")
    assert (code, hub.received) == (0, [])
    assert "README.md" in out
    assert "nothing was sent" in out
    code, out, _ = run(str(released_run), "--repo", "quick", "--private", "--revision", "v1")
    assert (code, "(private)" in out, "v1" in hub.repos["me/quick"].branches) == (0, True, True)
    assert hub.files("me/quick") == {}
    code, _, err = run(str(released_run / "nowhere"), "--repo", "me/quick")
    assert (code, err.startswith("error: ") and "no such run folder" in err) == (2, True)
    code, _, err = run(str(released_run), "--repo", "me/quick", "--task", "synthetic_nerr")
    assert (code, "did you mean 'synthetic_ner'?" in err) == (2, True)
    hub.fail("POST", "/commit/", 500)
    monkeypatch.setattr("hf_crosstask.release.push._pause", lambda attempt, error: 0)
    code, _, err = run(str(released_run), "--repo", "me/quick")
    assert (code, err.splitlines()[-1].startswith("error: committing: the Hub failed")) == (1, True)


def test_a_recipe_asks_for_a_release_and_a_bad_token_is_told_before_training(hub, monkeypatch) -> None:
    recipes = Path(__file__).resolve().parents[2] / "recipes"
    recipe = load_recipe(recipes / "quickstart.json", ["release.repo=me/quick", "release.private=true"])
    assert recipe.fingerprint() == load_recipe(recipes / "quickstart.json").fingerprint()
    request = Request.of(recipe)
    assert request is not None
    assert (request.repo, request.private) == ("me/quick", True)
    check_login(recipe)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match="does not accept the token"):
        check_login(recipe)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
