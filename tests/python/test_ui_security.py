"""Who gets in to the page and its API, named after the faults that others had (docs/ui.md)."""

from __future__ import annotations

import hmac
import http.client
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox._box import Box
from spanbox.server import Page, Server, _guard

TRACE = "0af7651916cd43dd8448eb211c80319c"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FROB")
READS = (
    "/api/status",
    "/api/overview",
    "/api/findings",
    "/api/overview/latency",
    "/api/overview/cost",
    "/api/overview/quality",
    "/api/overview/failures",
    "/api/overview/slow",
    "/api/traces",
    "/api/traces/heat",
    "/api/facets",
    "/api/complete",
    f"/api/trace/{TRACE}",
    f"/api/trace/{TRACE}/rest",
    f"/api/trace/{TRACE}/diff",
    "/api/sessions",
    "/api/costs",
    "/api/health",
    "/api/openapi.json",
    "/metrics",
)
WRITES = ("/api/session", "/api/scores", "/api/health/check", "/api/charts", "/api/charts/x", "/api/budget")
STATIC = ("/", "/traces", f"/trace/{TRACE}", "/assets/app.js")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("static")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><script src=/assets/app.js></script>")
    (folder / "assets" / "app.js").write_text("'page'")
    (folder / "notes.txt").write_text("not of the page")
    return Page(folder)


@pytest.fixture(scope="module")
def server(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    box = spanbox.open(tmp_path_factory.mktemp("store") / ".spanbox", create=True)
    box._store.append(
        [
            {
                "trace_id": TRACE,
                "span_id": "b7ad6b7169203331",
                "name": "canary-7f3a",
                "start_ns": 1_700_000_000_000_000_000,
            }
        ]
    )
    with Server(box, port=0, page=page) as running:
        yield running


Reply = tuple[int, http.client.HTTPMessage, bytes]


def ask(server: Server, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def raw(server: Server, *lines: str) -> tuple[int, bytes]:
    """The answer to a head written by hand."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        while chunk := line.recv(65_536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


def bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def session(server: Server) -> tuple[str, str]:
    """The cookie and the write token of a new session."""
    status, headers, body = ask(server, "/api/session", "POST", **bearer(server))
    assert status == 200
    return headers["Set-Cookie"].split(";")[0], json.loads(body)["write_token"]


# --- S-rebind ---


def hosts(port: int) -> dict[str, tuple[list[str], bool]]:
    """Host lines, and whether they are the server's own."""
    return {
        "127.0.0.1": ([f"127.0.0.1:{port}"], True),
        "localhost": ([f"localhost:{port}"], True),
        "upper case": ([f"LOCALHOST:{port}"], True),
        "IPv6": ([f"[::1]:{port}"], True),
        "attacker": (["rebind.example"], False),
        "attacker with the port": ([f"rebind.example:{port}"], False),
        "trailing dot": ([f"localhost.:{port}"], False),
        "another port": ([f"127.0.0.1:{port + 1}"], False),
        "no port": (["127.0.0.1"], False),
        "userinfo": ([f"127.0.0.1:{port}@rebind.example"], False),
        "decimal": ([f"2130706433:{port}"], False),
        "hexadecimal": ([f"0x7f000001:{port}"], False),
        "octal": ([f"0177.0.0.1:{port}"], False),
        "any address": ([f"0.0.0.0:{port}"], False),
        "mapped IPv6": ([f"[::ffff:7f00:1]:{port}"], False),
        "prefix": ([f"127.0.0.1.rebind.example:{port}"], False),
        "twice": ([f"127.0.0.1:{port}", "rebind.example"], False),
        "missing": ([], False),
    }


def origins(port: int, host: str) -> dict[str, tuple[list[str], bool]]:
    return {
        "none": ([], True),
        "own": ([f"http://{host}"], True),
        "null": (["null"], False),
        "attacker": (["http://rebind.example"], False),
        "prefix": ([f"http://{host}.rebind.example"], False),
        "suffix": ([f"http://rebind.example.{host}"], False),
        "https": ([f"https://{host}"], False),
        "another port": ([f"http://127.0.0.1:{port + 1}"], False),
        "twice": ([f"http://{host}", "http://rebind.example"], False),
    }


@pytest.mark.parametrize("method", METHODS)
def test_s_rebind_only_the_servers_own_names_get_an_answer(server: Server, method: str) -> None:
    """Ray CVE-2025-62593, MLflow CVE-2025-14279, MCP SDKs CVE-2025-66414 and -66416, MCP Inspector CVE-2025-49596."""
    wrong = []
    for name, (host_lines, host_is_own) in hosts(server.port).items():
        own = host_lines[0] if host_is_own else f"127.0.0.1:{server.port}"
        for path in (*READS[:2], *WRITES, *STATIC, "/metrics"):
            chosen = origins(server.port, own) if path in ("/api/status", "/") else {"none": ([], True)}
            for origin, (origin_lines, origin_is_own) in chosen.items():
                lines = [f"{method} {path} HTTP/1.1", *(f"Host: {each}" for each in host_lines)]
                lines += [f"Origin: {each}" for each in origin_lines]
                lines.append(f"Authorization: Bearer {server.token}")
                status, answer = raw(server, *lines, "Content-Length: 0")
                let_in = host_is_own and origin_is_own
                refused = status in (400, 403)  # h11 refuses a request without a Host, or with two, as such
                if let_in == refused and not (let_in and status == 400 and method == "POST"):
                    wrong.append((name, origin, method, path, status))
                if not let_in and (b"canary" in answer or b"Access-Control" in answer):
                    wrong.append((name, origin, method, path, "leaks"))
    assert wrong == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none, cross-site", "CROSS-SITE"])
def test_s_rebind_requests_that_pages_of_other_sites_send_are_refused(server: Server, site: str) -> None:
    for path in ("/api/status", "/", "/assets/app.js", "/metrics"):
        assert ask(server, path, Sec_Fetch_Site=site, **bearer(server))[0] == 403
    assert ask(server, "/", Sec_Fetch_Site="none")[0] == 200
    assert ask(server, "/api/status", Sec_Fetch_Site="same-origin", **bearer(server))[0] == 200


def test_s_rebind_an_absolute_target_is_no_way_around_the_host(server: Server) -> None:
    for target in ("http://rebind.example/api/status", f"http://127.0.0.1:{server.port}/api/status"):
        lines = [f"GET {target} HTTP/1.1", "Host: rebind.example", f"Authorization: Bearer {server.token}"]
        assert raw(server, *lines)[0] in (400, 403)


def test_no_answer_has_a_cors_header_and_every_answer_is_locked_down(server: Server) -> None:
    for path in (*READS, *STATIC, "/nothing"):
        _, headers, _ = ask(server, path, **bearer(server))
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] is None
        assert len(headers.get_all("Content-Security-Policy", [])) == 1


def test_the_page_runs_only_its_own_scripts(server: Server) -> None:
    for path in STATIC[:3]:
        assert ask(server, path)[1]["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
            "trusted-types svelte-trusted-html"
        )


# --- S-auth ---


@pytest.mark.parametrize("path", READS)
def test_s_auth_no_data_without_the_token(server: Server, path: str) -> None:
    """94 of 377 exposed servers of a peer were open: here none can be."""
    attempts: list[tuple[str, dict[str, str]]] = [
        (path, {}),
        (path, {"Authorization": "Bearer wrong"}),
        (path, {"Authorization": f"Bearer {server.token}x"}),
        (path, {"Authorization": f"Bearer {server.token[:-1]}"}),
        (path, {"Authorization": f"Basic {server.token}"}),
        (path, {"Authorization": server.token}),
        (path, {"Cookie": f"spanbox_{server.port}={server.token}"}),
        (path, {"Cookie": f"spanbox_{server.port}="}),
        (path, {"X-Spanbox-Token": server.token}),
        (f"{path}?token={server.token}", {}),
        (f"{path}?access_token={server.token}", {}),
    ]
    for where, headers in attempts:
        status, _, body = ask(server, where, **headers)
        assert status == 401
        assert b"canary" not in body
        assert spanbox.__version__.encode() not in body


def test_s_auth_the_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(server: Server) -> None:
    _, headers, _ = ask(server, "/api/session", "POST", **bearer(server))
    cookie = headers["Set-Cookie"]
    assert cookie.startswith(f"spanbox_{server.port}=")
    assert {part.strip() for part in cookie.split(";")[1:]} == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert server.token not in cookie
    assert ask(server, "/api/status", Cookie=cookie.split(";")[0])[0] == 200


def test_s_auth_the_cookie_alone_starts_no_session(server: Server) -> None:
    cookie, write_token = session(server)
    status, headers, _ = ask(server, "/api/session", "POST", Cookie=cookie, X_Spanbox_Token=write_token)
    assert (status, headers["Set-Cookie"]) == (401, None)


def test_s_auth_a_cookie_of_another_port_is_none(server: Server, page: Page, box: Box) -> None:
    """Browsers send cookies of one name of this machine to every port of it."""
    with Server(box, port=0, page=page) as other:
        cookie, _ = session(other)
        assert ask(server, "/api/status", Cookie=cookie)[0] == 401
        renamed = cookie.replace(str(other.port), str(server.port))
        assert ask(server, "/api/status", Cookie=renamed)[0] == 401


def test_s_auth_two_cookies_of_one_name_are_none(server: Server) -> None:
    cookie, _ = session(server)
    assert ask(server, "/api/status", Cookie=f"{cookie}; {cookie}")[0] == 401
    assert ask(server, "/api/status", Cookie=f"theme=dark; {cookie}")[0] == 200


def test_s_auth_old_sessions_end_when_there_are_too_many(page: Page, box: Box) -> None:
    with Server(box, port=0, page=page) as server:
        first, _ = session(server)
        for _ in range(64):
            session(server)
        assert ask(server, "/api/status", Cookie=first)[0] == 401


def test_s_auth_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret of a request goes through hmac.compare_digest, so that no byte of it can be found by its time."""
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(_guard.hmac, "compare_digest", compare)
    sessions = _guard.Sessions(7)
    access = _guard.Access(7, sessions=sessions)
    cookie, write_token = sessions.start()
    host, own = (b"host", b"127.0.0.1:7"), cookie.split(";")[0].encode()
    assert access.refusal("/api/status", [host, (b"authorization", b"Bearer guess")]) is not None
    assert (b"guess", access.token.encode()) in compared
    assert access.refusal("/api/status", [host, (b"cookie", b"spanbox_7=guess")]) is not None
    assert (b"guess", own.split(b"=", 1)[1]) in compared
    given = [host, (b"cookie", own), (b"x-spanbox-token", b"guess")]
    assert access.refusal("/api/scores", given, method="POST") is not None
    assert (b"guess", write_token.encode()) in compared


# --- CSRF ---


def test_s_cve_ray_2026_27482_every_method_but_get_needs_more_than_the_cookie(server: Server) -> None:
    cookie, write_token = session(server)
    score = json.dumps({"trace_id": TRACE, "name": "csrf", "value": 1, "source": "human"}).encode()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in (*WRITES, *READS):
            status, _, _ = ask(server, path, method, score, Cookie=cookie, Content_Type="application/json")
            assert status in (401, 403), (method, path)
    assert ask(server, "/api/scores", "POST", score, Cookie=cookie, X_Spanbox_Token="wrong")[0] == 403
    given = {"Cookie": cookie, "X_Spanbox_Token": write_token}
    for type_ in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert ask(server, "/api/scores", "POST", score, Content_Type=type_, **given)[0] == 415
    assert ask(server, "/api/scores", "POST", score, Content_Type="application/json", **given)[0] == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((path, "GET, HEAD") for path in READS[1:-1]),
        ("/api/scores", "POST"),
        ("/api/budget", "POST"),
        ("/api/charts", "GET, HEAD, POST"),
        ("/api/charts/x", "GET, HEAD, DELETE"),
    ],
)
def test_s_cve_mlflow_2025_1473_methods_that_are_not_listed_are_refused(
    server: Server, path: str, allowed: str
) -> None:
    for method in set(METHODS) - {"TRACE", *allowed.split(", ")}:
        status, headers, _ = ask(server, path, method, **bearer(server))
        assert status == 405, (method, path)
        assert set(allowed.split(", ")) >= set(headers["Allow"].split(", "))


def test_a_read_only_page_writes_nothing(page: Page, box: Box) -> None:
    box._store.append([{"trace_id": TRACE, "span_id": "b7ad6b7169203331", "name": "x", "start_ns": 1}])
    body = json.dumps({"trace_id": TRACE, "name": "n", "value": 1, "source": "human"}).encode()
    with Server(box, port=0, page=page, read_only=True) as server:
        status, _, answer = ask(server, "/api/scores", "POST", body, Content_Type="application/json", **bearer(server))
        assert (status, json.loads(answer)["code"]) == (403, "read_only")
        assert json.loads(ask(server, "/api/status", **bearer(server))[2])["read_only"] is True
    assert box.scores().count() == 0


# --- S-trav ---

STEPS = (
    "..",
    "%2e%2e",
    "%252e%252e",
    ".%2e",
    "..;",
    "..%00",
    "%c0%ae%c0%ae",
    "%uff0e%uff0e",
    "....//",
    "..\\",
    "..%5c",
    "%2e%2e%5c",
)
TARGETS = ("etc/passwd", "proc/self/environ", "notes.txt", "index.html", ".spanbox/data.mdb")


def test_s_trav_no_path_of_a_request_reaches_a_file(server: Server) -> None:
    """MLflow CVE-2023-1177, -2356, -6730, CVE-2024-1560, -1593, CVE-2025-11201, CVE-2026-2614."""
    tried = 0
    for step, target, prefix in itertools.product(
        STEPS, TARGETS, ("/", "/assets/", "/static/", "/trace/", "/api/blob/")
    ):
        for path in (f"{prefix}{step}/{step}/{step}/{target}", f"{prefix}{step}/{target}"):
            status, answer = raw(
                server,
                f"GET {path} HTTP/1.1",
                f"Host: 127.0.0.1:{server.port}",
                f"Authorization: Bearer {server.token}",
            )
            tried += 1
            assert status in (400, 404), path
            assert b"root:" not in answer
            assert b"not of the page" not in answer
    assert tried >= 100


@pytest.mark.parametrize(
    "path",
    ["/notes.txt", "/index.html", "//", "/assets", "/assets/", "/file:///etc/passwd", "/trace/../", "/trace/XYZ"],
)
def test_s_trav_only_listed_files_and_routes_are_there(server: Server, path: str) -> None:
    assert ask(server, path, **bearer(server))[0] in (401, 404)


def test_s_trav_a_link_in_the_folder_is_no_file_of_the_page(tmp_path: Any) -> None:
    secret = tmp_path / "secret.js"
    secret.write_text("secret")
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "link.js").symlink_to(secret)
    assert Page(folder).find("/link.js") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "x", "0" * 33, "zz" * 16, "%00" * 8, "0af7 OR 1=1"])
def test_s_trav_ids_are_ids(server: Server, name: str) -> None:
    for path in (f"/api/trace/{name}", f"/api/blob/{name}", f"/api/trace/{TRACE}/span/{name}"):
        status, answer = raw(
            server,
            f"GET {path.replace(' ', '%20')} HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            f"Authorization: Bearer {server.token}",
        )
        assert status in (400, 404)
        assert b"Traceback" not in answer


# --- S23 ---


def test_errors_tell_no_path_version_or_traceback(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(f"secret {Path.cwd()}")

    monkeypatch.setattr("spanbox.server.api._frame.panel", fail)
    for path in (
        "/api/trace/ffffffff",
        "/api/traces?from=yesterdayish",
        "/api/nothing",
        "/api/traces?sort=nothing_here&q=(",
    ):
        _, _, body = ask(server, path, **bearer(server))
        found = json.loads(body)
        assert set(found) <= {"code", "message", "at", "len", "fix"}
        assert str(Path.cwd()) not in found["message"]
        assert "Traceback" not in found["message"]
