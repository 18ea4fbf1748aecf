"""Posts from files of every format and from feeds: read, refused, counted once."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import POSTS
from candlecast.domain.market import FixedClock, Symbol
from candlecast.domain.sources import PostSource, Request
from candlecast.errors import BadCredentials, BadFrame, InvalidSpec, NotFound, ProviderUnavailable
from candlecast.providers.http import Politeness
from candlecast.providers.posts import PostsProvider
from fakes.http_faults import CUT, CUT_CHUNKS, MUTE, RESET, Reply
from fakes.posts_server import PostsServer

TWEETS = Path(__file__).parents[3] / "shared" / "data" / "news" / "stocknet_tweets.parquet"
NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
CLOCK = FixedClock(NOON)
ALL = Request()
QUICK = Politeness(timeout_seconds=0.5, first_wait_seconds=0.001, max_wait_seconds=0.5)


def post(number, **more):
    at = NOON - timedelta(hours=48 - number)
    return {
        "id": f"p{number}",
        "created_at": at.isoformat().replace("+00:00", "Z"),
        "author": f"author {number % 3}",
        "text": f'number {number}, "so to say"\nof $AAPL',
        "weight": 10 * number,
    } | more


RECORDS = [post(number) for number in range(8)]


def write(folder, name, records):
    path = folder / name
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, records[0].keys())
            table.writeheader()
            table.writerows(records)
    elif path.suffix == ".parquet":
        pl.DataFrame(records).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    else:
        path.write_text(json.dumps(records), encoding="utf-8")
    return path


def fetched(path, request=ALL, **options):
    return PostsProvider(path, **options).fetch_posts(request, CLOCK)


def from_lines(folder, *records, request=ALL):
    return fetched(write(folder, "posts.jsonl", records), request)


@pytest.mark.parametrize("name", ["posts.csv", "posts.parquet", "posts.jsonl", "posts.json"])
def test_every_format_gives_the_same_posts(tmp_path, name):
    result = fetched(write(tmp_path, name, RECORDS))
    assert result.failures == {}
    rows = POSTS.check(result.rows)
    assert rows["id"].to_list() == [f"posts:p{number}" for number in range(8)]
    assert rows["text"].to_list() == [record["text"] for record in RECORDS]
    assert rows["weight"].to_list() == [10.0 * number for number in range(8)]
    assert rows["symbols"].to_list() == [["AAPL"]] * 8
    assert rows["posted_at"].to_list() == rows["known_at"].to_list()
    assert rows["posted_at"][0] == NOON - timedelta(hours=48)


def test_a_folder_is_read_as_a_whole_and_a_bad_file_fails_alone(tmp_path):
    write(tmp_path, "one.csv", RECORDS[:4])
    write(tmp_path, "two.jsonl", RECORDS[4:])
    bad = write(tmp_path, "bad.csv", [{"what": "1", "ever": "2"}])
    result = fetched(tmp_path)
    assert len(result.rows) == 8
    assert list(result.failures) == [bad.as_posix()]
    assert "no column for ts, text" in result.failures[bad.as_posix()]


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "odd.csv", [{"wann": "2024-01-02 03:04", "was": "up", "wer": "me"}])
    columns = {"ts": "wann", "text": "was", "author": "wer"}
    rows = fetched(path, columns=columns, zone="America/New_York").rows
    assert rows["posted_at"].to_list() == [datetime(2024, 1, 2, 8, 4, tzinfo=UTC)]
    assert rows["author"].to_list() == ["me"]
    with pytest.raises(NotFound, match="field of a post"):
        PostsProvider(path, columns={"txt": "was"})


def test_what_cannot_be_true_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "posts.csv"
    path.write_text(
        "created_at,text\n"
        "2024-01-02 10:00,good\n"
        'yesterday,"spans\ntwo lines"\n'
        "2024-01-02 11:00,\n"
        ",no time\n"
        "2024-02-02 11:00,tomorrow\n"
        "2024-01-02 12:00,a,comma\n"
        "2024-01-02 13:00,also good\n",
        encoding="utf-8",
    )
    result = fetched(path)
    assert set(result.rows["text"]) == {"good", "also good"}
    named = {key.rpartition(":")[2]: reason for key, reason in result.failures.items()}
    assert {line: reason.partition(": ")[2] for line, reason in named.items()} == {
        "3": "time 'yesterday' cannot be read",
        "5": "text is missing",
        "6": "time is missing",
        "7": "2024-02-02 11:00 is still to come; check its time zone",
        "8": "3 cells where the header has 2",
    }
    assert all(reason.startswith(f"{path.as_posix()}:") for reason in named.values())


def test_a_broken_line_of_json_is_refused_and_the_others_go_on(tmp_path):
    path = tmp_path / "posts.jsonl"
    path.write_text(f'{json.dumps(post(1))}\n{{"id": \n\n{json.dumps(post(2))}\n[1]\n')
    result = fetched(path)
    assert len(result.rows) == 2
    assert [key.rpartition(":")[2] for key in result.failures] == ["2", "5"]


def test_many_refusals_of_one_file_are_summed_up(tmp_path):
    records = [post(number, text="") for number in range(30)]
    result = from_lines(tmp_path, *records, post(31))
    assert len(result.rows) == 1
    assert len(result.failures) == 21
    assert "30 of 31 records are refused" in list(result.failures.values())[-1]


def test_the_same_id_is_one_post_on_all_its_symbols(tmp_path):
    one, other = post(1, symbols=["AAPL"]), post(1, symbols=["MSFT", "AAPL"], text="other")
    rows = from_lines(tmp_path, one, other).rows
    assert rows["symbols"].to_list() == [["AAPL", "MSFT"]]
    assert rows["text"].to_list() == [one["text"]]


def test_what_an_author_repeats_within_a_day_is_dropped(tmp_path):
    def said(hours, author, text="buy $AAPL"):
        at = (NOON - timedelta(hours=100 - hours)).isoformat()
        return {"id": f"{hours}{author}", "created_at": at, "author": author, "text": text}

    rows = from_lines(
        tmp_path,
        *(
            said(0, "a"),
            said(23, "a"),
            said(46, "a"),
            said(71, "a"),
            said(1, "b"),
            said(1, "a", "x"),
        ),
    ).rows
    kept = {"0a", "71a", "1b"}
    assert {name.removeprefix("posts:") for name in rows["id"]} - {"1a"} == kept


def test_a_post_without_id_keeps_the_same_one_for_ever(tmp_path):
    record = {key: value for key, value in post(1).items() if key != "id"}
    first = from_lines(tmp_path, record).rows
    second = from_lines(tmp_path, post(2), record | {"weight": 7}).rows
    assert first["id"][0] in second["id"].to_list()


def test_cashtags_are_read_where_no_column_names_symbols(tmp_path):
    texts = {
        "p1": "$AAPL, $brk.b and ($TSLA): up $5 or US$10, not me@x$Y; $AAPL again",
        "p2": "no ticker here",
        "p3": "long $BTC",
    }
    records = [post(1, id=key, text=text) for key, text in texts.items()]
    asked = (Symbol("AAPL"), Symbol("TSLA"), Symbol("BTC-USD", "crypto", "24/7"))
    free = dict(from_lines(tmp_path, *records).rows.select("id", "symbols").iter_rows())
    assert free["posts:p1"] == ["AAPL", "BRK.B", "TSLA"]
    assert free["posts:p3"] == ["BTC"]
    rows = from_lines(tmp_path, *records, request=Request(asked)).rows
    assert dict(rows.select("id", "symbols").iter_rows())["posts:p3"] == ["BTC-USD"]


def test_posts_on_symbols_that_are_not_asked_for_are_left_out(tmp_path):
    records = [
        post(1, symbols="AAPL MSFT"),
        post(2, symbols="$IBM"),
        post(3, symbols=""),
        post(4, symbols="MSFT"),
    ]
    rows = from_lines(tmp_path, *records, request=Request((Symbol("AAPL"),))).rows
    assert rows["id"].to_list() == ["posts:p1", "posts:p3"]


def test_only_posts_of_the_span_come(tmp_path):
    start, end = NOON - timedelta(hours=46), NOON - timedelta(hours=44)
    rows = from_lines(tmp_path, *RECORDS, request=Request(start=start, end=end)).rows
    assert rows["id"].to_list() == ["posts:p2", "posts:p3"]


@pytest.mark.parametrize("name", ["likes", "likeCount", "score", "followers", "followers_count"])
def test_what_is_counted_at_the_download_is_a_weight_only_where_that_is_asked_for(tmp_path, name):
    records = [{k: v for k, v in post(n).items() if k != "weight"} | {name: 9} for n in (1, 2)]
    path = write(tmp_path, "posts.jsonl", records)
    assert fetched(path).rows["weight"].to_list() == [None, None]
    assert fetched(path, columns={"weight": name}).rows["weight"].to_list() == [9.0, 9.0]


@pytest.mark.parametrize("body", ["5\n", "null\n", "{}\n", "[1, 2]"])
def test_documents_without_any_field_fail_their_file_in_our_words(tmp_path, body):
    path = tmp_path / "posts.jsonl"
    path.write_text(body)
    assert "no column for ts, text; it has none" in fetched(path).failures[path.as_posix()]


def test_a_weight_that_says_nothing_is_null(tmp_path):
    rows = from_lines(
        tmp_path, post(1, weight=-3), post(2, weight=None), post(3, weight="many")
    ).rows
    assert rows["weight"].to_list() == [None, None, None]


@settings(max_examples=40)
@given(st.permutations(RECORDS), st.lists(st.sampled_from(RECORDS), max_size=5))
def test_order_and_duplicates_change_nothing(tmp_path_factory, records, again):
    folder = tmp_path_factory.mktemp("posts")
    assert from_lines(folder, *records, *again).rows.equals(from_lines(folder, *RECORDS).rows)


@pytest.fixture(params=["array", "lines", "object"])
def server(request):
    with PostsServer(RECORDS, form=request.param) as server:
        yield server


def from_feed(server, request=ALL, **options):
    provider = PostsProvider(url=f"{server.url}/feed", politeness=QUICK, **options)
    return provider.fetch_posts(request, CLOCK)


def test_all_pages_of_a_feed_are_read(server, tmp_path):
    result = from_feed(server)
    assert isinstance(PostsProvider(url=server.url), PostSource)
    assert len(server.asked) == 3
    assert result.failures == {}
    assert result.rows.equals(from_lines(tmp_path, *RECORDS).rows)


def test_a_feed_is_asked_for_a_day_more_than_the_span(server):
    start = NOON - timedelta(hours=18)
    assert from_feed(server, Request(start=start)).rows.is_empty()
    assert server.asked[0].query["since"] == "2024-01-08T18:00:00Z"


@pytest.mark.parametrize("fault", [CUT, CUT_CHUNKS, RESET, MUTE, Reply(429), Reply(502)])
def test_a_page_lost_half_way_is_asked_for_again(server, fault):
    expected = from_feed(server).rows
    server.faults += [server.answer(server.asked[0]), fault]
    assert from_feed(server).rows.equals(expected)


def test_a_feed_that_fails_on_a_later_page_returns_no_half_history(server):
    server.faults += [server.answer(_first(server)), *[Reply(500)] * 4]
    with pytest.raises(ProviderUnavailable, match="posts feed /feed: out of order"):
        from_feed(server)


def _first(server):
    from_feed(server)
    return server.asked[0]


def test_a_line_cut_in_two_is_asked_for_again():
    with PostsServer(RECORDS, form="lines", page_size=9) as server:
        whole = server.answer(_first(server))
        server.faults.append(Reply(200, whole.body[:-9]))
        assert len(from_feed(server).rows) == 8


def test_pages_that_go_in_a_circle_end():
    with PostsServer(RECORDS) as server:
        server.answer = lambda asked: Reply.json(
            RECORDS[:2], Link=f'<{asked.path}?x=1>; rel="next"'
        )
        with pytest.raises(ProviderUnavailable, match="has no end after 2 pages"):
            from_feed(server)


def test_a_token_is_sent_and_never_shown():
    with PostsServer(RECORDS, token="s3cr3t") as server:
        assert len(from_feed(server, token="s3cr3t").rows) == 8
        with pytest.raises(BadCredentials) as caught:
            from_feed(server, token="wr0ng")
        assert "wr0ng" not in str(caught.value)
    assert "s3cr3t" not in repr(PostsProvider(url="http://x.example", token="s3cr3t"))


def test_a_feed_without_posts_is_no_error(server):
    server.posts = []
    assert from_feed(server).rows.is_empty()


def test_a_feed_of_something_else_says_so():
    with PostsServer([]) as server:
        server.answer = lambda _: Reply.json([{"a": 1}])
        with pytest.raises(BadFrame, match="posts feed, page 1: no column for ts, text"):
            from_feed(server)


def test_a_column_of_no_use_fails_its_file_alone(tmp_path):
    odd = write(tmp_path, "odd.parquet", [post(1, weight=[{"a": 1}])])
    write(tmp_path, "good.csv", RECORDS)
    result = fetched(tmp_path)
    assert len(result.rows) == 8
    assert "name other columns" in result.failures[odd.as_posix()]


def test_posts_come_from_somewhere():
    with pytest.raises(InvalidSpec, match="give paths or url"):
        PostsProvider()
    with pytest.raises(NotFound, match=r"no (CSV, Parquet or JSON file in|file or folder)"):
        fetched("nowhere")


@pytest.mark.skipif(not TWEETS.is_file(), reason=f"NOT TESTED on real posts: {TWEETS} is absent")
def test_the_stocknet_tweets_load():
    raw = pl.read_parquet(TWEETS)
    result = fetched(TWEETS)
    assert result.failures == {}
    rows = POSTS.check(result.rows)
    assert set(rows["symbols"].explode()) == set(raw["symbol"])
    # Nothing is lost but repetitions, and no repetition is left.
    texts = raw.select(pl.col("text").str.strip_chars()).unique()
    assert set(rows["text"]) == set(texts["text"])
    twice = rows.group_by("text", "posted_at").len().filter(pl.col("len") > 1)
    assert twice.is_empty()
    assert 0.3 < len(rows) / len(raw) < 1
