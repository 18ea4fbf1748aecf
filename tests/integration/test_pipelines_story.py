"""The whole story where nothing but CANDLECAST_DATABASE_URL is set."""

import pytest

from story import tell


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_story_is_the_same_on_postgres(database_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", database_url)
    tell(database_url, tmp_path)
    assert {path.name for path in (tmp_path / "var").iterdir()} == {"artifacts", "mirror"}
