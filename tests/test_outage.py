"""A database that hangs, refuses, or is wrong: quick answers for users, host and reason for operators."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from quilt_registry import database, schema
from quilt_registry.errors import Unavailable
from tests.browsers import browser, sign_in
from tests.commands import refuses
from tests.postgres import needs_proc, own_postgres
from tests.processes import descendants
from tests.registry import LocalRegistry
from tests.waiting import wait_until


@contextlib.contextmanager
def hung(postmaster: int) -> Iterator[None]:
    """Stop a server and all of its processes without ending them, as a frozen host would."""
    stopped = [postmaster, *descendants(postmaster)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@needs_proc
def test_a_database_that_hangs_is_told_soon_and_everywhere(
    local_registry: Callable[..., LocalRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PING_TIMEOUT", 1.0)
    monkeypatch.setattr(database, "ACQUIRE_TIMEOUT", 200.0)  # nothing but the watch may end the waiting
    with own_postgres(tmp_path / "postgres") as server:
        schema.migrate(server.url("quilt"))
        registry = local_registry(server.url("quilt"), DATABASE_POOL="2")
        anna = registry.make_person("anna")
        top_hash = anna.push("trees", {"x": b"1"})
        page = browser(registry)
        sign_in(page, "anna")
        paths = ["/api/me", f"/api/package/anna/trees/{top_hash}", "/api/search/?q=x"] * 2
        pages = ["/", "/package/anna/trees", "/signin"]
        questions = [(anna.http, path) for path in paths] + [(page, path) for path in pages]
        answers: list[httpx.Response] = []
        assert server.process
        with hung(server.process.pid), ThreadPoolExecutor(len(questions)) as people:
            answers = list(people.map(lambda question: question[0].get(question[1]), questions, timeout=60))
            for answer in answers:
                assert answer.status_code == 503, (answer.request.url, answer.text)
            for answer in answers[: len(paths)]:
                assert answer.json() == {"message": database.NO_RESPONSE}
            for answer in answers[len(paths) :]:
                assert database.NO_RESPONSE in answer.text
                assert "/static/" in answer.text, "the page has no style"
            monkeypatch.setattr(database, "PING_TIMEOUT", 3.0)
            began = time.monotonic()
            assert page.get("/package/anna/trees").status_code == 503
            assert time.monotonic() - began < 3, "the registry knows that the database hangs"
            assert registry.nobody().get("/healthcheck").text == "ok"
        wait_until(lambda: anna.get("/api/me").status_code == 200, 60)
        anna.install("anna", "trees", top_hash)


def test_a_slow_statement_is_no_hang(
    local_registry: Callable[..., LocalRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    registry = local_registry()
    anna = registry.make_person("anna")
    with registry.left_open("LOCK account IN ACCESS EXCLUSIVE MODE"):
        waiting = threading.Thread(target=lambda: answers.append(anna.get("/api/me")))
        answers: list[httpx.Response] = []
        waiting.start()
        time.sleep(2)  # several rounds of the watch
        assert not answers
    waiting.join(60)
    assert answers[0].status_code == 200


# ------------------------------------------------------------------------------------------------ commands


def test_errors_of_connecting_have_host_and_reason_and_no_password(postgres: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        silent = taken.getsockname()[1]
    expected = {
        f"postgresql://anna:hunter2@127.0.0.1:{silent}/x": f"127.0.0.1:{silent} (database x): connection refused",
        "postgresql://anna:hunter2@nowhere.invalid/quilt": "nowhere.invalid (database quilt): ",
        f"postgresql://anna:hunter2@/quilt?host={tmp_path}": f"{tmp_path} (database quilt): no such file or directory",
        postgres.format("missing"): '(database missing): database "missing" does not exist',
    }
    for url, message in expected.items():
        with pytest.raises(Unavailable) as refused:
            schema.migrate(url)
        assert str(refused.value).startswith("Cannot connect to the database at ")
        assert message in str(refused.value)
        assert "hunter2" not in str(refused.value)


@pytest.mark.drill
@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["backup", "a.dump"], ["verify-objects"]], ids=" ".join)
def test_commands_tell_why_they_cannot_connect(tmp_path: Path, command: list[str]) -> None:
    url = "postgresql://anna:hunter2@127.0.0.1:9/quilt"
    done = subprocess.run(
        [sys.executable, "-m", "quilt_registry", *command],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url, "QUILT_SECRET_KEY": "a secret for tests"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    refuses(done, "127.0.0.1:9 (database quilt): connection refused")
    assert "hunter2" not in done.stdout + done.stderr
