"""The documented proxies in front of a registry: two host names, TLS, limits, and trusted client IPs."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests import trees
from tests.browsers import Browser
from tests.client import old_client
from tests.client.old_client import Terminal
from tests.deploy import nginx
from tests.deploy.authority import Authority
from tests.deploy.nginx import Nginx, replaced
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, free_port, new_name
from tests.s3server import NotToBeHadError
from tests.trees import Json
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

CADDYFILE = nginx.DOCUMENTED.with_name("Caddyfile")
CATALOG, REGISTRY, OTHER = "quilt.example.com", "localhost", "other.example.com"
LIMIT = 1_000_000  # bytes of a body


class Caddy:
    """Debian's Caddy with a Caddyfile. It writes only below `home`."""

    def __init__(self, home: Path, configuration: str):
        home.mkdir()
        self.home, self.admin = home, f"127.0.0.1:{free_port()}"
        (home / "Caddyfile").write_text(configuration)

    def start(self) -> Caddy:
        if not shutil.which("caddy"):
            raise NotToBeHadError("There is no caddy. Install the Debian package caddy.")
        environment = {**os.environ, "XDG_DATA_HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home)}
        environment["CADDY_ADMIN"] = self.admin
        with open(self.home / "out", "wb") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "caddy", "run", "--config", str(self.home / "Caddyfile")],
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        wait_until(self._serves, explain=(self.home / "out").read_text)
        return self

    def _serves(self) -> bool:
        assert self.process.poll() is None, (self.home / "out").read_text()
        return "serving initial configuration" in (self.home / "out").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def caddyfile(plain: int, tls: int, certificate: Path, registry: int) -> str:
    """Return the documented file with these ports."""
    return replaced(
        CADDYFILE.read_text(),
        ("{\n\tauto_https off", f"{{\n\tauto_https off\n\thttp_port {plain}\n\thttps_port {tls}"),
        ("/etc/ssl/certs/quilt.pem", str(certificate)),
        ("/etc/ssl/private/quilt.key", str(certificate)),
        ("127.0.0.1:5000", f"127.0.0.1:{registry}"),
    )


class LoopbackTransport(httpx.HTTPTransport):
    """Resolve every host name to this machine, and connect from the loopback IP `source`."""

    def __init__(self, context: ssl.SSLContext, source: str):
        super().__init__(verify=context, local_address=source)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """TLS and the Host header still carry the original name."""
        here, names = request.url.copy_with(host="127.0.0.1"), {"sni_hostname": request.url.host}
        extensions = {**request.extensions, **names}
        led = httpx.Request(request.method, here, headers=request.headers, stream=request.stream, extensions=extensions)
        return super().handle_request(led)


class Site:
    """A registry behind a proxy."""

    def __init__(self, home: Path, kind: str, database_url: str, mailbox: Mailbox):
        self.plain, self.tls = free_port(), free_port()
        authority = Authority(home / "authority")
        self.authority = authority.certificate
        certificate = authority.issue(CATALOG, REGISTRY, OTHER)
        self.url = f"https://{REGISTRY}:{self.tls}"
        self.registry = Registry(
            home / "registry", database_url,
            REGISTRY_URL=self.url, CATALOG_URL=f"https://{CATALOG}:{self.tls}",
            MAX_BODY_BYTES=str(LIMIT), SMTP_HOST="127.0.0.1", SMTP_PORT=str(mailbox.port),
        )  # fmt: skip
        documented = nginx.site if kind == "nginx" else caddyfile
        text = documented(self.plain, self.tls, certificate, self.registry.port)
        text = text.replace("quilt-registry.example.com", REGISTRY)  # the released client can resolve this name
        self.proxy = (Nginx if kind == "nginx" else Caddy)(home / "proxy", text)

    @property
    def entrance(self) -> Registry:
        """Return the registry as users reach it."""
        outside = copy.copy(self.registry)
        outside.url = self.url
        return outside

    def client(self, host: str = CATALOG, source: str = "127.0.0.1") -> Browser:
        """Return an HTTP client that resolves all names to the proxy."""
        context = ssl.create_default_context(cafile=self.authority)
        return Browser(base_url=f"https://{host}:{self.tls}", transport=LoopbackTransport(context, source), timeout=60)

    def line(self, request_id: str) -> Json:
        """Return the registry's log line of a request."""
        found: list[Json] = []

        def logged() -> bool:
            lines = map(json.loads, self.registry.log.read_text().splitlines())
            found[:] = [line for line in lines if line.get("request_id") == request_id]
            return bool(found)

        wait_until(logged)
        return found[0]


@pytest.fixture(scope="session")
def sites(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox
) -> Iterator[Callable[[str], Site]]:
    """Return the site behind nginx or Caddy; each starts at its first use."""
    started: list[Site] = []

    @functools.cache
    def start(kind: str) -> Site:
        made = Site(tmp_path_factory.mktemp(kind), kind, new_database(), mailbox)
        made.proxy.start()
        made.registry.start()
        started.append(made)
        made.registry.make_person("paula", is_admin=True)
        return made

    yield start
    for made in started:
        assert made.registry.stop() == 0
        made.proxy.stop()
        assert "Traceback" not in made.registry.log.read_text()


@pytest.fixture(params=["nginx", "caddy"])
def site(request: pytest.FixtureRequest, sites: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    try:
        made = sites(request.param)
    except NotToBeHadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    return made


@pytest.fixture
def paula(site: Site) -> Person:
    """An admin who connects through the proxy."""
    return site.entrance.sign_in("paula")


# ------------------------------------------------------------------------------------------------ names and TLS


def test_both_names_lead_to_the_registry_and_no_other(site: Site) -> None:
    for host in (CATALOG, REGISTRY):
        assert site.client(host).get("/healthcheck").text == "ok"
    for headers in ({}, {"Host": CATALOG}):
        assert site.client(OTHER).get("/healthcheck", headers=headers).status_code == (200 if headers else 404)
    assert site.client(CATALOG).get("/healthcheck", headers={"Host": OTHER}).status_code == 404


@pytest.mark.parametrize("host", [CATALOG, REGISTRY])
def test_http_leads_to_https(site: Site, host: str) -> None:
    for method in ("GET", "POST"):
        target = f"http://127.0.0.1:{site.plain}/package/a%2Fb/%E2%82%AC?x=1&y=%2F"
        answer = httpx.request(method, target, headers={"Host": host})
        assert answer.status_code == 301
        assert answer.headers["location"] == f"https://{host}/package/a%2Fb/%E2%82%AC?x=1&y=%2F"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("version", "fine"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_tls_before_1_2_is_refused(site: Site, version: ssl.TLSVersion, fine: bool) -> None:
    context = ssl.create_default_context(cafile=site.authority)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")  # otherwise the client would not offer old versions
    refused = contextlib.nullcontext() if fine else pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION")
    for host in (CATALOG, OTHER):
        with socket.create_connection(("127.0.0.1", site.tls)) as connection, refused:
            context.wrap_socket(connection, server_hostname=host).close()


# ------------------------------------------------------------------------------------------------ client IPs

FORGED_HEADERS = [
    {"X-Forwarded-For": "203.0.113.7"},
    {"X-Forwarded-For": "203.0.113.7, 127.0.0.1"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Real-IP": "203.0.113.7"},
    {"Forwarded": "for=203.0.113.7;proto=http", "X-Forwarded-Host": "evil.example"},
]


@pytest.mark.parametrize("forged", FORGED_HEADERS, ids=str)
def test_the_log_has_the_real_client_ip_whatever_headers_say(site: Site, forged: dict[str, str]) -> None:
    for host, source in ((CATALOG, "127.0.0.5"), (REGISTRY, "127.0.0.6"), (REGISTRY, "127.0.0.1")):
        request_id = new_name("request")
        answer = site.client(host, source).get("/signin", headers={**forged, "X-Request-ID": request_id})
        assert answer.headers["x-request-id"] == request_id
        assert site.line(request_id)["client"] == source


@pytest.mark.parametrize("forged", FORGED_HEADERS, ids=str)
def test_headers_are_not_trusted_without_the_proxy(site: Site, forged: dict[str, str]) -> None:
    request_id = new_name("past")
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9")) as client:
        client.get(site.registry.url + "/signin", headers={**forged, "X-Request-ID": request_id}).raise_for_status()
    assert site.line(request_id)["client"] == "127.0.0.9"


def test_password_guesses_are_counted_by_client_ip(site: Site) -> None:
    site.registry.make_person("gus")

    def guess(source: str, number: int) -> int:
        forged = {"X-Forwarded-For": f"203.0.113.{number}"}
        given = {"username": "gus", "password": f"wrong {number}"}
        return site.client(REGISTRY, source).post("/api/login", json=given, headers=forged).status_code

    assert {guess("127.0.0.7", number) for number in range(10)} == {401}
    assert guess("127.0.0.7", 10) == 429
    assert guess("127.0.0.8", 0) == 401
    rows = site.registry.sql("SELECT extra FROM event WHERE kind = 'SIGN_IN_FAILED' AND subject = 'gus' ORDER BY id")
    assert [json.loads(row["extra"])["address"] for row in rows][-2:] == ["127.0.0.7", "127.0.0.8"]


# ------------------------------------------------------------------------------------------------ pages and emails


def test_users_sign_in_by_a_form(site: Site, paula: Person) -> None:
    page, given = site.client(), {"username": "paula", "password": PASSWORD}
    origin = f"https://{CATALOG}:{site.tls}"
    assert page.submit("/signin", given, headers={"Origin": f"https://{OTHER}:{site.tls}"}).status_code == 403
    answer = page.submit("/signin", given, headers={"Origin": origin})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "; Secure" in answer.headers["set-cookie"]
    assert "paula" in page.get("/").text


def test_links_are_https(site: Site, paula: Person, mailbox: Mailbox) -> None:
    name = new_name("liam")
    given = {"username": name, "email": f"{name}@example.com"}
    assert paula.post("/api/users/create", json=given).status_code == 200
    email = mailbox.wait(f"{name}@example.com")
    assert f"https://{CATALOG}:{site.tls}/" in email.text
    assert "http://" not in email.text
    urls = paula.upload("paula", new_name("empty"), trees.tree({"x": b"to be sent"}), [])
    assert all(url.startswith(f"{site.url}/") for pair in urls.values() for url in pair.values())


# ------------------------------------------------------------------------------------------------ bodies


def body(size: int) -> bytes:
    """Return a push body of this size."""
    text = json.dumps({"contents": trees.tree({"x": b""}), "description": "", "sizes": {}, "dry_run": True})
    return text.encode().ljust(size)


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield the data in chunks, so that no Content-Length is sent."""
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


@pytest.mark.parametrize("send", [bytes, pieces], ids=["of known length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (40 * LIMIT, 413)])
def test_the_registry_says_what_is_too_large(
    site: Site, paula: Person, size: int, status: int, send: Callable[[bytes], bytes | Iterator[bytes]]
) -> None:
    target = f"/api/package/paula/sized/{trees.top_hash(trees.tree({'x': b''}))}"
    answer = paula.put(target, content=send(body(size)), headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status == 413:
        assert answer.json()["message"] == "The request body exceeds the limit of 1,000,000 bytes."


def test_objects_of_any_size_pass(paula: Person) -> None:
    name, data = new_name("large"), os.urandom(20 * LIMIT)
    top_hash = paula.push(name, {"large": data, "empty": b""})
    paula.install("paula", name, top_hash)


def test_a_long_response_arrives_complete_at_a_slow_reader(site: Site, paula: Person) -> None:
    """The proxy buffers neither request nor response on its disk, which would fill up one day."""
    name, data = new_name("long"), b"the same in all files"
    group = trees.group({f"{number:03}": trees.file(data) for number in range(200)})
    top_hash = paula.push_tree(name, trees.root({f"{number:03}": group for number in range(200)}), [data])
    path = f"/api/package/paula/{name}/{top_hash}"
    read = bytearray()
    with paula.http.stream("GET", path) as answer:
        assert "content-length" not in answer.headers
        for chunk in answer.iter_bytes():
            if not read:
                time.sleep(1)
            read += chunk
    direct = httpx.get(site.registry.url + path, headers={"Authorization": f"Bearer {paula.token}"})
    assert trees.top_hash(json.loads(read)["contents"]) == top_hash
    assert len(read) == len(direct.content) > 3_000_000
    if isinstance(site.proxy, Nginx):
        assert "buffered to a temporary file" not in site.proxy.errors()


# ------------------------------------------------------------------------------------------------ the released client


@pytest.mark.old_client
def test_the_released_client_pushes_and_installs(site: Site, paula: Person, tmp_path: Path) -> None:
    old_client.environment()
    terminal = Terminal(tmp_path / "home", site.entrance)
    terminal.environment["REQUESTS_CA_BUNDLE"] = str(site.authority)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/numbers.txt").write_text("1 2 3")
    (tmp_path / "source/large.txt").write_bytes(os.urandom(3 * LIMIT))
    name = f"local:paula/{new_name('old')}"
    terminal.sign_in(paula)
    terminal("build", name, str(tmp_path / "source"))
    terminal("push", name)
    elsewhere = terminal.another("another")
    elsewhere.environment["REQUESTS_CA_BUNDLE"] = str(site.authority)
    elsewhere("install", name)
    assert elsewhere.export(name) == old_client.files(tmp_path / "source")
