"""The newest bars of a symbol judged alone: over HTTP, kept while nothing changes, and printed."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.api import quality
from candlecast.api.app import create_app
from candlecast.domain.frames import ACTIONS, BARS, INSTANT, QUARANTINE
from candlecast.domain.market import Symbol
from candlecast.pipelines.check import CheckQuery, check_data
from candlecast.store.bars import write_bars, write_symbols
from candlecast.store.facts import write_facts
from candlecast.store.quarantine import read_quarantine, write_quarantine
from command_line import call
from pipeline_rows import DAILY, at, opened
from served import asking

NOW = datetime(2024, 1, 31, tzinfo=UTC)
DAYS = [datetime(2023, 11, 1, tzinfo=UTC) + timedelta(days=n) for n in range(91)]
INSTANTS = {"ts": INSTANT, "known_at": INSTANT}


@pytest.fixture
def stores(tmp_path):
    """A and B with a bar a day, each some percent above or below the one before."""
    with opened(f"sqlite:///{tmp_path / 'candlecast.db'}", tmp_path, NOW) as found:
        for ticker in ("A", "B"):
            write_symbols(found.database, [Symbol(ticker, "crypto", "24/7")])
            write_bars(found.database, DAILY, bars_of(ticker))
        yield found


def bars_of(ticker):
    closes = [5.0 + (n * 7 % 11) / 50 for n in range(len(DAYS))]
    return BARS.conform(
        pl.DataFrame(
            {
                "symbol": ticker,
                "ts": DAYS,
                "open": closes,
                "high": [close + 0.1 for close in closes],
                "low": [close - 0.1 for close in closes],
                "close": closes,
                "volume": 1.0,
                "source": "files",
                "known_at": [ts + timedelta(days=1) for ts in DAYS],
            },
            schema_overrides=INSTANTS,
        )
    )


def refused(ts, place="a.csv:3"):
    row = {"symbol": "A", "source": "files", "place": place, "ts": ts, "reason": "high below low"}
    return QUARANTINE.conform(pl.DataFrame([row], schema_overrides={"ts": INSTANT}))


def action(ex_date, kind, value):
    row = {"symbol": "A", "ex_date": ex_date, "kind": kind, "value": value, "source": "x"}
    return ACTIONS.conform(pl.DataFrame([row | {"known_at": ex_date}]))


def answer(client, **parameters):
    response = client.get("/api/v1/quality", params={"symbol": "A"} | parameters)
    assert response.status_code == 200, response.text
    return response.json()


# --- refused rows ---------------------------------------------------------------------------


@pytest.mark.parametrize("max_bars", [None, 10, 91, 500])
def test_a_corrected_bar_is_never_bad_however_many_bars_are_looked_at(stores, max_bars):
    write_quarantine(stores.database, DAILY, refused(DAYS[2]), NOW)
    run = check_data(stores, CheckQuery(symbols=("A",), max_bars=max_bars))
    assert run.states() == {"A": "good"}
    n_notes = 0 if max_bars == 10 else 1
    assert run.counts()["A"].get("impossible", 0) == n_notes


def test_a_refused_row_without_a_time_is_bad_until_its_source_is_read_without_it(stores):
    write_quarantine(stores.database, DAILY, refused(None), NOW)
    assert check_data(stores, CheckQuery(symbols=("A",))).states() == {"A": "bad"}
    none, kept = QUARANTINE.empty(), refused(None)
    for rows, symbol, source, n_left in (
        (none, "B", "files", 1),
        (none, "A", "elsewhere", 1),
        (kept, "A", "files", 1),
        (none, "A", "files", 0),
    ):
        answered = pl.DataFrame({"symbol": [symbol], "source": [source]})
        write_quarantine(stores.database, DAILY, rows, NOW, answered=answered)
        assert len(read_quarantine(stores.database, DAILY)) == n_left
    assert check_data(stores, CheckQuery(symbols=("A",))).states() == {"A": "good"}


def test_a_refused_row_with_a_time_stays_when_its_source_is_read_again(stores):
    write_quarantine(stores.database, DAILY, refused(DAYS[2]), NOW)
    answered = pl.DataFrame({"symbol": ["A"], "source": ["files"]})
    write_quarantine(stores.database, DAILY, QUARANTINE.empty(), NOW, answered=answered)
    assert len(read_quarantine(stores.database, DAILY)) == 1


# --- actions --------------------------------------------------------------------------------


def test_an_action_that_cannot_be_true_is_told_with_its_reason(stores):
    write_facts(stores.database, ACTIONS, action(DAYS[40], "dividend", 900.0))
    write_facts(stores.database, ACTIONS, action(DAYS[50], "dividend", 0.01))
    run = check_data(stores, CheckQuery(symbols=("A",)))
    (found,) = run.findings.filter(pl.col("kind") == "impossible_action").to_dicts()
    assert (found["severity"], found["start"], found["value"]) == ("bad", DAYS[40], 900.0)
    assert "900.0 is not below the close before it" in found["message"]
    assert run.states() == {"A": "bad"}
    with asking(create_app(stores)) as client:
        body = quality.Quality.model_validate(answer(client))
    assert body.symbols["A"].counts == {"impossible_action": 1}


# --- over HTTP ------------------------------------------------------------------------------


def test_the_api_says_what_the_pipeline_says_of_a_corrected_bar(stores, monkeypatch):
    monkeypatch.setattr(quality, "MAX_BARS", 20)
    write_quarantine(stores.database, DAILY, refused(DAYS[2]), NOW)
    with asking(create_app(stores)) as client:
        both = client.get("/api/v1/quality", params={"symbol": ["A", "B"]}).json()["symbols"]
        assert {ticker: own["n_bars"] for ticker, own in both.items()} == {"A": 10, "B": 10}
        assert answer(client)["symbols"]["A"]["n_bars"] == 20
        assert both["A"]["state"] == "good"


def test_nothing_older_is_read_than_what_is_looked_at(stores, monkeypatch):
    read, starts = stores.mirror.read, []

    def noting(*args, **options):
        frame = read(*args, **options)
        starts.append(frame["ts"].min())
        return frame

    monkeypatch.setattr(stores.mirror, "read", noting)
    run = check_data(stores, CheckQuery(max_bars=10))
    assert run.n_bars == {"A": 10, "B": 10}
    assert starts == [DAYS[-10]] * 2


def test_an_answer_is_kept_until_something_changes(stores, monkeypatch):
    checked = []
    monkeypatch.setattr(
        quality, "check_data", lambda *given: checked.append(given) or check_data(*given)
    )
    app = create_app(stores)
    with asking(app) as client:
        first = answer(client)
        assert answer(client) == first
        assert len(checked) == 1
        changes = [
            lambda: write_quarantine(stores.database, DAILY, refused(DAYS[2]), NOW),
            lambda: write_facts(stores.database, ACTIONS, action(DAYS[9], "dividend", 99.0)),
            lambda: write_bars(
                stores.database,
                DAILY,
                bars_of("A").slice(50, 1).with_columns(close=5.05, known_at=pl.lit(NOW)),
            ),
        ]
        for number, change in enumerate(changes, start=2):
            change()
            assert answer(client)["symbols"].keys() == {"A"}
            assert len(checked) == number
        app.state.stores = at(stores, NOW + timedelta(days=30))
        gaps = answer(client)["symbols"]["A"]["counts"]["gap"]
        assert (gaps, len(checked)) == (1, 5)
    with asking(create_app(stores)) as client:
        answer(client)
    assert len(checked) == 6


def test_no_more_answers_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(quality, "MAX_KEPT", 2)
    answers, made = quality.Answers(), []
    for key in (1, 2, 1, 3, 1, 2):
        answers.get(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 2]


# --- from a shell ---------------------------------------------------------------------------


def test_names_with_terminal_escapes_are_printed_without_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    path = tmp_path / "bars.csv"
    path.write_text(
        "symbol,date,open,high,low,close,volume\n"
        "\x1b[2JEVIL,2024-01-02,5,4,6,5,1\n\x1b[2JEVIL,2024-01-03,5,6,4,5,1\n"
    )
    shown = call("data", "check", str(path))
    assert shown.code == 0
    assert "EVIL" in shown.out
    assert "\x1b" not in shown.out + shown.err
