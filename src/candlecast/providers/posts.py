"""Posts of social networks, from files or an HTTP feed: checked, and each counted once.

1. Records are read from CSV, Parquet and JSON lines, or page by page from a feed.
2. Records that cannot be true are refused with file and line.
3. Records of one id are one post on all their symbols. A text that its author repeats within a
   day is dropped; what nobody is named as author of counts as written by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import INSTANT, POSTS
from candlecast.domain.market import Clock, Symbol
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import BadFrame, InvalidSpec, ProviderUnavailable
from candlecast.providers.columns import Fields, check_mapping
from candlecast.providers.http import Answer, HttpClient, Politeness, linked, nonsense
from candlecast.providers.instants import parse_instants
from candlecast.providers.records import (
    SUFFIXES,
    as_failures,
    from_documents,
    named_columns,
    parse_documents,
    read_records,
    selected,
    within_span,
)
from candlecast.providers.rows import is_no_value
from candlecast.providers.tables import DEFECT, LINE, find_files

SOURCE: Final = "posts"
FEED: Final = "posts feed"
FIELDS: Final = Fields(
    "post",
    {
        "id": ("id", "postid", "tweetid", "messageid", "statusid", "idstr", "guid"),
        "ts": (
            *("postedat", "createdat", "publishedat", "published", "createdutc", "created"),
            *("ts", "timestamp", "datetime", "date", "time"),
        ),
        "text": ("text", "body", "message", "content", "tweet", "fulltext", "title"),
        "author": ("author", "user", "username", "screenname", "userid", "handle"),
        "symbols": ("symbols", "symbol", "tickers", "ticker", "cashtags", "asset"),
        "weight": ("weight",),
    },
    required=("ts", "text"),
)
CASHTAG: Final = r"(?:^|[^A-Za-z0-9$])\$([A-Za-z]{1,6}(?:[.\-][A-Za-z]{1,4})?)\b"
REPEATED_WITHIN: Final = timedelta(days=1)
MAX_PAGES: Final = 1000


@PROVIDERS.register(SOURCE)
class PostsProvider:
    """Timestamped posts from CSV, Parquet and JSON-lines files, or from an HTTP feed.

    Parameters
    ----------
    paths : one or several files, or folders that are searched with their subfolders
    url : address of a feed; it is asked with ``since`` (ISO 8601) and answers JSON lines, a JSON
        array, or an object with ``posts``, ``data`` or ``items``; the next page stands in its
        ``next`` or in the ``Link`` header, on the same host
    columns : field of a post (id, ts, text, author, symbols, weight) to column; others are
        detected by name
    zone : IANA name of the time zone of times written without one
    token : sent to the feed as ``Authorization: Bearer``
    politeness : limits of rate, tries, time and size

    Notes
    -----
    Symbols are taken from their column, else from cashtags such as ``$AAPL``; a coin's name
    stands for the asked pair of it. Posts on none of the asked symbols are left out, but those on
    no symbol at all speak of the market and stay. An absent or negative weight is null, an absent
    id is made of time, author and text. Unreadable times, missing texts and posts from the future
    are refused, with file and line in `failures`. `known_at` is the time of the post.

    A weight counts from then on, so it must have been known then: only a column called ``weight``,
    or named in `columns`, is taken for one. Likes, scores and followers are counted when the posts
    are downloaded; by themselves they would tell how a post fared before it did.

    Raises
    ------
    InvalidSpec : neither paths nor url. NotFound : nothing to read there, or an unknown field.
    RateLimited, ProviderUnavailable, BadCredentials : the feed failed; no page of it is returned.
    """

    delay_seconds = 0.0

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path] = (),
        *,
        url: str | None = None,
        columns: Mapping[str, str] | None = None,
        zone: str = "UTC",
        token: str | None = None,
        politeness: Politeness | None = None,
    ) -> None:
        named = [paths] if isinstance(paths, str | Path) else paths
        if not named and url is None:
            raise InvalidSpec("posts come from files or from a feed; give paths or url")
        self.paths = tuple(Path(path) for path in named)
        self.url = url
        self.columns = check_mapping(columns or {}, FIELDS)
        self.zone = zone
        self.politeness = politeness or Politeness()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def fetch_posts(self, request: Request, clock: Clock) -> FetchedRows:
        """POSTS posted within the request's span, with the records that were refused."""
        tables, failures = [], {}
        for file in find_files(self.paths, SUFFIXES):
            try:
                table = read_records(file, self.columns, FIELDS)
                tables.append(_as_rows(table, file.as_posix(), self.zone))
            except BadFrame as error:
                failures[file.as_posix()] = f"{file.as_posix()}: {error}"
        for number, documents in enumerate(self._fetch_pages(request), start=1):
            place = f"{FEED}, page {number}"
            try:
                page = named_columns(from_documents(documents), self.columns, FIELDS)
                tables.append(_as_rows(page, place, self.zone))
            except BadFrame as error:
                raise BadFrame(f"{place}: {error}") from error
        if not tables:
            return FetchedRows(POSTS.empty(), failures)
        rows = pl.concat(tables).with_columns(reason=_reason(clock.now()))
        n_rows = dict(rows.group_by("file").len().iter_rows())
        failures |= as_failures(rows.filter(pl.col("reason").is_not_null()), n_rows)
        posts = _each_once(rows.filter(pl.col("reason").is_null()))
        posts = _asked_for(_with_tickers(posts, request.symbols or ()), request)
        known_at = pl.col("posted_at") + timedelta(seconds=self.delay_seconds)
        return FetchedRows(POSTS.conform(posts.with_columns(known_at=known_at)), failures)

    def _fetch_pages(self, request: Request) -> list[list[tuple[int, Any]]]:
        if self.url is None:
            return []
        params: dict[str, str | int] = {}
        if request.start is not None:
            # A day more, for what the first posts of the span may repeat.
            since = request.start.astimezone(UTC) - REPEATED_WITHIN
            params["since"] = since.isoformat().replace("+00:00", "Z")
        pages: list[list[tuple[int, Any]]] = []
        seen: set[str] = set()
        path = ""
        with HttpClient(
            FEED, self.url, politeness=self.politeness, headers=self._headers
        ) as client:
            while path not in seen and len(seen) < MAX_PAGES:
                seen.add(path)
                documents, following = client.get_parsed(path, None if path else params, _page)
                if documents:
                    pages.append(documents)
                if following is None:
                    return pages
                path = following
        raise ProviderUnavailable(f"{FEED} has no end after {len(seen)} pages; ask its owner why")


def _page(answer: Answer, what: str) -> tuple[list[tuple[int, Any]], str | None]:
    # The documents of a page and the link to the next; a line cut in two is asked for again.
    try:
        documents = parse_documents(answer.body)
    except ValueError as error:
        raise nonsense(what) from error
    following = linked(answer.url, answer.next_link, what)
    if len(documents) == 1 and isinstance(documents[0][1], dict):
        whole = documents[0][1]
        listed = next((whole[k] for k in ("posts", "data", "items") if k in whole), None)
        if isinstance(listed, list):
            documents = list(enumerate(listed, start=1))
            following = following or linked(answer.url, whole.get("next"), what)
    if any(isinstance(document, bytes) for _, document in documents):
        raise nonsense(what)
    return documents, following


def _as_rows(table: pl.DataFrame, file: str, zone: str) -> pl.DataFrame:
    # One row a record: the columns of POSTS but for known_at, with file, line and what is wrong.
    text = _text(table, "text")
    weight = pl.lit(None, pl.Float64)
    if "weight" in table.columns:
        weight = pl.col("weight").cast(pl.Float64, strict=False).fill_nan(None)
    return selected(
        table,
        id=_text(table, "id"),
        posted_at=parse_instants(table["ts"], zone=zone, is_daily=False).cast(INSTANT),
        source=pl.lit(SOURCE),
        author=_text(table, "author"),
        text=text,
        symbols=_symbols(table).list.unique().list.sort(),
        weight=pl.when(weight.is_between(0, float("inf"), closed="left")).then(weight),
        raw_ts=pl.col("ts").cast(pl.String),
        file=pl.lit(file),
        line=LINE,
        defect=DEFECT,
    )


def _text(table: pl.DataFrame, name: str) -> pl.Expr:
    if name not in table.columns:
        return pl.lit(None, pl.String)
    cell = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(~is_no_value(cell)).then(cell)


def _symbols(table: pl.DataFrame) -> pl.Expr:
    if "symbols" not in table.columns:
        tags = pl.col("text").cast(pl.String).fill_null("").str.extract_all(CASHTAG)
        return tags.list.join(" ").str.to_uppercase().str.extract_all(r"[A-Z]+(?:[.\-][A-Z]+)?")
    cell = pl.col("symbols")
    if isinstance(table.schema["symbols"], pl.List):
        cell = cell.cast(pl.List(pl.String)).list.join(" ")
    written = cell.cast(pl.String).fill_null("").str.to_uppercase()
    return written.str.extract_all(r"[^\s,;|\[\]'\"$]+")


def _reason(now: datetime) -> pl.Expr:
    unread = pl.format("time '{}' cannot be read", pl.col("raw_ts"))
    later = pl.format("{} is still to come; check its time zone", pl.col("raw_ts"))
    return (
        pl.when(pl.col("defect").is_not_null())
        .then(pl.col("defect"))
        .when(is_no_value(pl.col("raw_ts")))
        .then(pl.lit("time is missing"))
        .when(pl.col("posted_at").is_null())
        .then(unread)
        .when(pl.col("text").is_null())
        .then(pl.lit("text is missing"))
        .when(pl.col("posted_at") > now)
        .then(later)
    )


def _each_once(rows: pl.DataFrame) -> pl.DataFrame:
    identified = rows.with_columns(pl.coalesce("id", _made_ids(rows)).alias("id"))
    first = pl.all().exclude("id", "symbols").first()
    symbols = pl.col("symbols").explode().drop_nulls().unique().sort()
    posts = identified.group_by("id", maintain_order=True).agg(first, symbols)
    posts = posts.with_columns(pl.format("{}:{}", pl.lit(SOURCE), "id").alias("id"))
    same = [pl.col("author").fill_null(""), pl.col("text"), pl.col("symbols").list.join(" ")]
    ordered = posts.sort("posted_at", "id")
    since = pl.col("posted_at").diff().over(same)
    return ordered.filter(since.is_null() | (since >= REPEATED_WITHIN))


def _made_ids(rows: pl.DataFrame) -> pl.Series:
    # Polars' own hash changes between versions; ids are for ever.
    stamp = pl.col("posted_at").dt.epoch("us").cast(pl.String)
    joined = rows.select(
        pl.concat_str(stamp, pl.col("author").fill_null(""), "text", separator="\n")
    ).to_series()
    made = [hashlib.blake2b(text.encode(), digest_size=12).hexdigest() for text in joined]
    return pl.Series(made, dtype=pl.String)


def _with_tickers(posts: pl.DataFrame, symbols: Sequence[Symbol]) -> pl.DataFrame:
    # A coin's tag names its pair, unless a stock of that name is asked for as well.
    coins = {s.ticker.rpartition("-")[0]: s.ticker for s in symbols if s.asset_class == "crypto"}
    if not coins:
        return posts
    tags = coins | {symbol.ticker: symbol.ticker for symbol in symbols}
    named = pl.col("symbols").list.eval(pl.element().replace(tags))
    return posts.with_columns(symbols=named.list.unique().list.sort())


def _asked_for(posts: pl.DataFrame, request: Request) -> pl.DataFrame:
    if request.tickers is not None:
        asked = pl.lit(list(request.tickers), pl.List(pl.String))
        is_of_market = pl.col("symbols").list.len() == 0
        is_asked = pl.col("symbols").list.set_intersection(asked).list.len() > 0
        posts = posts.filter(is_of_market | is_asked)
    return within_span(posts, "posted_at", request)
