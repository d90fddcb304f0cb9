"""Fault 40: who may ask, what a browser is told, and what an error gives away."""

import logging

import pytest

from rejepa_jax.serve.settings import Settings, read_token
from rejepa_jax.types import ConfigError

TOKEN = "a-token-of-32-characters-or-more"


def test_it_binds_to_loopback_unless_told_otherwise():
    assert (Settings().host, Settings().token) == ("127.0.0.1", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "search.example.org", ""])
def test_another_host_without_a_token_is_refused(host):
    with pytest.raises(ConfigError, match="without a token, expected one"):
        Settings(host=host)
    assert Settings(host=host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["short", "fünfzehn-zeichen-und-mehr"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token):
    with pytest.raises(ConfigError, match="expected 16 or more, all ASCII"):
        Settings(token=token)


def test_token_comes_from_a_file_or_the_environment(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(path, "another") == TOKEN
    assert read_token(None, TOKEN) == TOKEN
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty file"):
        read_token(path, "")
    with pytest.raises(ConfigError, match="token_file"):
        read_token(tmp_path / "nothing", "")


@pytest.mark.parametrize("path", ["/", "/api/info", "/static/app.js", "/metrics", "/openapi.json"])
def test_without_the_token_every_path_but_the_probes_is_401(serving, path):
    client = serving(Settings(host="0.0.0.0", token=TOKEN))
    for headers in (
        {},
        {"Authorization": "Bearer " + TOKEN[:-1]},
        {"Authorization": "Basic " + TOKEN},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"rejepa_token={TOKEN}"},
        {"Cookie": 'rejepa_token="\\377'},
    ):
        response = client.get(path, headers=headers)
        assert response.status_code == 401, headers
        assert response.json()["error"].startswith("got no token")
    assert client.get("/healthz").status_code == 200
    given = client.get("/api/info", headers={"Authorization": f"Bearer {TOKEN}"})
    assert given.status_code == 200


def test_token_in_the_address_is_traded_once_for_a_strict_cookie(serving):
    client = serving(Settings(host="0.0.0.0", token=TOKEN))
    assert client.get("/?token=wrong").status_code == 401
    assert client.get(f"/api/info?token={TOKEN}").status_code == 401
    page = client.get("/", params={"token": TOKEN})
    cookie = page.headers["set-cookie"]
    assert page.status_code == 200
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie + page.text
    assert page.headers["cache-control"] == "no-store"
    bare = client.get("/")  # the client has kept the cookie
    assert (bare.status_code, bare.text) == (200, page.text)
    assert "set-cookie" not in bare.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_another_host_name_on_loopback_is_refused_as_dns_rebinding(client, host):
    response = client.get("/api/info", headers={"Host": host})
    assert response.status_code == 400
    assert "expected localhost" in response.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
def test_own_names_are_served_with_any_port(client, host):
    assert client.get("/api/info", headers={"Host": host}).status_code == 200


def test_no_other_site_may_ask_or_read(client):
    other = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/api/search", json={}, headers=other).status_code == 403
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for response in (client.options("/api/search", headers=asked), client.get("/api/info")):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_every_answer_forbids_other_sources_guessing_and_framing(client):
    paths = ("/healthz", "/api/info", "/nothing", "/api/items/10000", "/api/thumbnails/3")
    for path in paths:
        headers = client.get(path).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "http" not in headers["content-security-policy"]
        assert "*" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_docs_from_a_cdn_are_off_and_the_description_is_there(client):
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    assert client.get("/openapi.json").json()["paths"]["/api/search"]["post"]["summary"] == "Search"


def test_fault_inside_is_500_with_a_number_that_the_log_explains_and_no_trace(
    serving, monkeypatch, caplog
):
    client = serving(Settings())
    service = client.app.state.service

    async def fail(*_):
        raise RuntimeError("secret of /srv/run")

    monkeypatch.setattr(service, "run", fail)
    with caplog.at_level(logging.ERROR):
        response = client.get("/api/items/1")
    assert response.status_code == 500
    text = response.json()["error"]
    number = text.split("number ")[1].split(";")[0]
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "content-security-policy" in response.headers
    assert f"error {number} at /api/items/1" in caplog.text
    assert "secret of /srv/run" in caplog.text
    assert 'code="500",route="/api/items/{row}"' in client.get("/metrics").text
