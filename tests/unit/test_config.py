"""Settings come from CANDLECAST_* variables and .env; what is wrong names variable and remedy."""

import os
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from candlecast.config import PREFIX, Settings
from candlecast.errors import InvalidSpec


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_any_variable_the_documented_defaults_hold(tmp_path):
    settings = Settings()
    assert settings.home == Path("var")
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/var/candlecast.db"
    assert settings.artifacts_url is None
    assert settings.redis_url is None
    assert (settings.engine, settings.log_level, settings.min_bars) == ("processes", "INFO", 500)
    assert (settings.symbols, settings.horizons) == ((), ("1D", "1W", "1M"))
    assert settings.cors_origins == ()


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", "")
    monkeypatch.setenv("CANDLECAST_MIN_BARS", "")
    assert Settings().database_url is None
    assert Settings().min_bars == 500


def test_lists_are_split_at_commas_trimmed_and_free_of_repetitions(monkeypatch):
    monkeypatch.setenv("CANDLECAST_SYMBOLS", "AAPL, MSFT,,AAPL ")
    assert Settings().symbols == ("AAPL", "MSFT")


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch, tmp_path):
    text = "CANDLECAST_MIN_BARS=300\nCANDLECAST_ENGINE=ray\nOTHER=1\n"
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    monkeypatch.setenv("CANDLECAST_MIN_BARS", "400")
    assert (Settings().min_bars, Settings().engine) == (400, "ray")


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().min_bars = 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s%20cret@db:5433/market",
        "postgres://ann:s%20cret@db:5433/market",
        "postgresql+asyncpg://ann:s%20cret@db:5433/market",
        "postgresql+psycopg2://ann:s%20cret@db:5433/market",
        "postgresql+psycopg://ann:s%20cret@db:5433/market",
    ],
)
def test_every_postgres_url_reaches_the_driver_we_have(monkeypatch, url):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", url)
    resolved = make_url(Settings().resolved_database_url)
    assert resolved.drivername == "postgresql+psycopg"
    assert (resolved.username, resolved.password) == ("ann", "s cret")
    assert (resolved.host, resolved.port, resolved.database) == ("db", 5433, "market")


def test_asyncpgs_ssl_becomes_libpqs_sslmode_and_socket_folders_survive(monkeypatch):
    url = "postgresql+asyncpg:///market?host=/run/my%20sockets&ssl=require"
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", url)
    resolved = make_url(Settings().resolved_database_url)
    assert resolved.database == "market"
    assert dict(resolved.query) == {"host": "/run/my sockets", "sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///bars.db", "sqlite:///bars.db"),
        ("sqlite:////srv/bars.db", "sqlite:////srv/bars.db"),
        ("sqlite+pysqlite:////srv/bars.db", "sqlite:////srv/bars.db"),
    ],
)
def test_sqlite_urls_go_to_the_standard_library(monkeypatch, url, resolved):
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", url)
    assert Settings().resolved_database_url == resolved


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_a_password_is_never_shown(monkeypatch, name):
    scheme = {"DATABASE_URL": "postgresql", "REDIS_URL": "redis"}[name]
    monkeypatch.setenv(PREFIX + name, f"{scheme}://ann:hunter2@host/1")
    settings = Settings()
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    monkeypatch.setenv(PREFIX + name, "ftp://ann:hunter2@host/1")
    with pytest.raises(InvalidSpec) as caught:
        Settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("DATABASE_URL", "mysql://host/x", "postgresql://"),
        ("DATABASE_URL", "bars.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite://", "sqlite:///path"),
        ("DATABASE_URL", "sqlite:///:memory:", "sqlite:///path"),
        ("REDIS_URL", "http://host", "redis://"),
        ("ENGINE", "threads", "processes, ray or dask"),
        ("LOG_LEVEL", "loud", "WARNING"),
        ("HORIZONS", " , ", "1D,1W,1M"),
        ("MIN_BARS", "251", "at least 252"),
        ("MIN_BARS", "many", "whole number"),
        ("CORS_ORIGINS", "example.com", "https://example.com"),
        ("CORS_ORIGINS", "https://example.com/page", "without a path"),
    ],
)
def test_a_senseless_value_names_its_variable_and_the_remedy(monkeypatch, name, value, remedy):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(InvalidSpec) as caught:
        Settings()
    assert str(caught.value).startswith(f"{PREFIX}{name}: ")
    assert remedy in str(caught.value)
    assert caught.value.status == 422


def test_a_home_that_is_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "taken"))
    with pytest.raises(InvalidSpec, match="CANDLECAST_HOME: is a file; name a folder"):
        Settings()


def test_all_wrong_values_are_named_at_once(monkeypatch):
    monkeypatch.setenv("CANDLECAST_ENGINE", "x")
    monkeypatch.setenv("CANDLECAST_MIN_BARS", "1")
    with pytest.raises(InvalidSpec) as caught:
        Settings()
    assert str(caught.value).count(PREFIX) == 2
