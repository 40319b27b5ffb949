"""What a request is said to be for."""

import threading

import pytest

from modelpm.registry.task import Scope, Task, looking

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("method", "path", "words", "action"),
    [
        ("GET", "manifests/1", "pulling reg.io/a/b:1", "pull"),
        ("GET", f"manifests/{DIGEST}", f"pulling reg.io/a/b@{DIGEST}", "pull"),
        ("GET", f"blobs/{DIGEST}", "pulling reg.io/a/b, blob aaaaaaaaaaaa", "pull"),
        ("HEAD", "manifests/1", "looking for reg.io/a/b:1", "pull"),
        ("HEAD", f"blobs/{DIGEST}", "looking for reg.io/a/b, blob aaaaaaaaaaaa", "pull"),
        ("PUT", "manifests/1", "pushing reg.io/a/b:1", "pull,push"),
        ("POST", "blobs/uploads", "pushing reg.io/a/b, blob uploads", "pull,push"),
        ("GET", "tags/list?n=9", "listing tags of reg.io/a/b", "pull"),
        ("GET", f"referrers/{DIGEST}", "listing referrers of reg.io/a/b", "pull"),
    ],
)
def test_the_words_say_what_is_attempted(method: str, path: str, words: str, action: str) -> None:
    task = Task.of("reg.io", method, f"https://reg.io/v2/a/b/{path}")
    assert task == Task(words, Scope("a/b", action))
    with looking():
        looked = Task.of("reg.io", method, f"https://reg.io/v2/a/b/{path}")
    assert looked == Task(words.replace("pulling", "reading"), Scope("a/b", action))


def test_what_is_no_repository_s_is_only_asked() -> None:
    assert Task.of("reg.io", "GET", "https://reg.io/v2/") == Task("asking reg.io", Scope())


def test_only_the_thread_that_looks_says_so() -> None:
    told: list[str] = []

    def pull() -> None:
        told.append(Task.of("reg.io", "GET", "https://reg.io/v2/a/manifests/1").words)

    with looking():
        thread = threading.Thread(target=pull)
        thread.start()
        thread.join(30)
    pull()
    assert told == ["pulling reg.io/a:1"] * 2
