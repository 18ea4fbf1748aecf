"""The page, its headers, and what other pages may do."""

import pytest

from candlecast.api.app import create_app
from candlecast.domain.market import FixedClock
from served import NOW, asking, open_at


@pytest.fixture
def stores(tmp_path):
    opened = open_at(tmp_path, FixedClock(NOW))
    yield opened
    opened.close()


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>the dashboard</title>", encoding="utf-8")
    (folder / "assets" / "index-abc.js").write_text("1", encoding="utf-8")
    return folder


@pytest.fixture
def client(stores, built):
    with asking(create_app(stores, static_folder=built)) as opened:
        yield opened


def test_a_page_that_is_not_built_says_how_to_build_it(stores, tmp_path):
    with asking(create_app(stores, static_folder=tmp_path / "absent")) as client:
        response = client.get("/")
    assert response.status_code == 200
    assert "make setup" in response.text
    assert "npm run build" in response.text


def test_a_built_page_is_served_beside_the_api(client):
    assert "the dashboard" in client.get("/").text
    assert client.get("/api/v1/symbols").json() == {"now": "2004-10-12T20:00:00Z", "symbols": []}
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/assets/absent.js").json()["error"]["kind"] == "NotFound"


def test_files_named_by_their_content_are_kept_and_all_else_is_asked_for_anew(client):
    assert "immutable" in client.get("/assets/index-abc.js").headers["cache-control"]
    for path in ("/", "/api/v1/symbols", "/assets/absent.js"):
        assert client.get(path).headers["cache-control"] == "no-cache"


def test_no_file_outside_the_folder_is_served(client, built):
    (built.parent / "secret.txt").write_text("secret", encoding="utf-8")
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/api/v1/symbols", "/api/v1/nothing"])
def test_every_answer_tells_the_browser_to_trust_only_this_place(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_only_named_origins_may_read_from_other_pages(stores):
    with asking(create_app(stores, cors_origins=["https://desk.example"])) as client:
        named = client.get("/healthz", headers={"Origin": "https://desk.example"})
        other = client.get("/healthz", headers={"Origin": "https://evil.example"})
    assert named.headers["access-control-allow-origin"] == "https://desk.example"
    assert "access-control-allow-origin" not in other.headers


def test_without_named_origins_no_other_page_may_read(client):
    response = client.get("/healthz", headers={"Origin": "https://desk.example"})
    assert "access-control-allow-origin" not in response.headers
