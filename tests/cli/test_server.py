"""The uvicorn version whose internals `cli/server.py` and `cli/http_protocol.py` use."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from quilt_registry.cli import serve
from quilt_registry.settings import Settings

TESTED = "0.54"  # the minor version of uvicorn that the subclasses were tested with


def test_uvicorn_has_the_minor_version_that_its_subclasses_were_tested_with() -> None:
    assert re.match(r"\d+\.\d+", version("uvicorn"))[0] == TESTED, (  # type: ignore[index]
        f"cli/server.py and cli/http_protocol.py use internals of uvicorn and were tested with {TESTED}, but "
        f"{version('uvicorn')} is installed. Compare uvicorn/server.py, supervisors/multiprocess.py and "
        "protocols/http/httptools_impl.py of both versions, run tests/deploy/test_serving.py, "
        "tests/cli/test_commands.py and tests/cli/test_http_protocol.py, and then change the pin in "
        "pyproject.toml and TESTED here."
    )


def test_only_that_minor_version_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    major, minor = map(int, TESTED.split("."))
    assert f"uvicorn>={TESTED},<{major}.{minor + 1}" in project["optional-dependencies"]["server"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:5001"),
        ("localhost", "http://localhost:5001"),
        ("0.0.0.0", "http://localhost:5001"),
        ("::", "http://localhost:5001"),
        ("::1", "http://[::1]:5001"),
        ("192.0.2.7", "http://192.0.2.7:5001"),
        ("2001:db8::7", "http://[2001:db8::7]:5001"),
        ("fe80::1%eth0", "http://localhost:5001"),
        ("my laptop", "http://localhost:5001"),
    ],
)
def test_the_url_of_any_host_is_valid(host: str, url: str) -> None:
    assert serve._local_url(host, 5001) == Settings(registry_url=url).registry_url == url
