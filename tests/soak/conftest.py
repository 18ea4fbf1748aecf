"""The databases of the integration tests, for the long tests too."""

from integration.conftest import database_url, postgres_url  # noqa: F401 - fixtures
