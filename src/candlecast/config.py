"""Settings from the environment (CANDLECAST_*); read only by entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from candlecast.errors import InvalidSpec

PREFIX: Final = "CANDLECAST_"
LEAST_BARS: Final = 252
CommaList = Annotated[tuple[str, ...], NoDecode]

_REMEDIES: Final = {
    "home": "name a folder we may write to, e.g. ./var",
    "database_url": "use sqlite:///path/to/file.db or postgresql://user:password@host/name",
    "artifacts_url": "name a folder or an fsspec URL, e.g. s3://bucket/models",
    "redis_url": "use redis://host:6379/0, rediss://… or unix:///path/to/socket",
    "engine": "use processes, ray or dask",
    "log_level": "use DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "symbols": "list tickers with commas, e.g. AAPL,MSFT",
    "horizons": "list horizons with commas, e.g. 1D,1W,1M",
    "min_bars": f"use a whole number of at least {LEAST_BARS}, a year of daily bars",
    "scorer": "use lexicon, or finbert:/path/to/folder, where the model's files lie",
    "feature_files": "list Python files with commas, e.g. my_features.py",
    "cors_origins": "list origins with commas, e.g. https://example.com, without a path",
}


class Settings(BaseSettings):
    """All settings, each from the variable ``CANDLECAST_<NAME>`` or a line of ``.env``.

    Frozen. URLs that may hold a password are never shown by ``repr``.

    Raises
    ------
    InvalidSpec : a value makes no sense; the message names the variable and what it may be.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Path("var")
    database_url: SecretStr | None = None
    artifacts_url: str | None = Field(default=None, repr=False)
    redis_url: SecretStr | None = None
    engine: Literal["processes", "ray", "dask"] = "processes"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    symbols: CommaList = ()
    horizons: CommaList = ("1D", "1W", "1M")
    min_bars: int = Field(default=500, ge=LEAST_BARS)
    cors_origins: CommaList = ()
    providers: CommaList = ()
    feature_files: Annotated[tuple[Path, ...], NoDecode] = ()
    scorer: str = "lexicon"
    alpaca_key_id: SecretStr | None = None
    alpaca_secret_key: SecretStr | None = None
    coingecko_api_key: SecretStr | None = None

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            # Not chained: the original error repeats what was typed, passwords included.
            raise InvalidSpec(_explain(error)) from None

    @property
    def resolved_database_url(self) -> str:
        """The URL for SQLAlchemy: the one that was set, or SQLite under `home`; with password."""
        if self.database_url is None:
            return f"sqlite:///{self.home.resolve() / 'candlecast.db'}"
        return _with_driver(self.database_url.get_secret_value())

    def of_provider(self, name: str, parameter: str) -> str | None:
        """What is set for a parameter of a provider, such as ``key_id`` of ``alpaca``."""
        value = getattr(self, f"{name}_{parameter}", None)
        return value.get_secret_value() if isinstance(value, SecretStr) else None

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        if home.expanduser().is_file():
            raise ValueError("is a file")
        return home.expanduser()

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @field_validator(
        "symbols", "horizons", "cors_origins", "providers", "feature_files", mode="before"
    )
    @classmethod
    def _split(cls, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        items = dict.fromkeys(item.strip() for item in text.split(","))
        return tuple(item for item in items if item)

    @field_validator("horizons")
    @classmethod
    def _at_least_one(cls, horizons: tuple[str, ...]) -> tuple[str, ...]:
        if not horizons:
            raise ValueError("names no horizon")
        return horizons

    @field_validator("scorer")
    @classmethod
    def _is_scorer(cls, scorer: str) -> str:
        name, colon, folder = (part.strip() for part in scorer.partition(":"))
        if not name:
            raise ValueError("names no scorer")
        if name == "finbert" and not folder:
            raise ValueError("names no folder")
        if not colon:
            return name
        place = Path(folder).expanduser()
        if not folder or not place.is_dir():
            raise ValueError(f"{folder!r} is no folder")
        return f"{name}:{place}"

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            is_origin = parts.scheme in {"http", "https"} and parts.netloc
            if origin != "*" and (not is_origin or parts.path or parts.query):
                raise ValueError(f"{origin} is no origin")
        return origins

    @field_validator("database_url")
    @classmethod
    def _is_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        dialect = parts.scheme.partition("+")[0]
        if dialect not in {"sqlite", "postgres", "postgresql"}:
            raise ValueError(f"does not know {dialect or 'a URL without scheme'}")
        if dialect == "sqlite" and parts.path in {"", "/", "/:memory:"}:
            raise ValueError("names no file; a database in memory is gone with its process")
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url and urlsplit(url.get_secret_value()).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("is no Redis URL")
        return url


def _with_driver(url: str) -> str:
    # Whatever driver a URL names, the database is reached through the one we have.
    parts = urlsplit(url)
    dialect = parts.scheme.partition("+")[0]
    if dialect == "sqlite":
        return "sqlite" + url.removeprefix(parts.scheme)
    # asyncpg says ssl=require where libpq says sslmode=require.
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode(
        [("sslmode" if name == "ssl" else name, value) for name, value in pairs], quote_via=quote
    )
    return f"postgresql+psycopg://{parts.netloc}{parts.path}{'?' if query else ''}{query}"


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(detail["loc"][0])
        reason = detail["msg"].removeprefix("Value error, ")
        lines.append(f"{PREFIX}{name.upper()}: {reason}; {_REMEDIES.get(name, 'leave it out')}")
    return "\n".join(lines)
