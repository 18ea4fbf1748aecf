"""Corporate actions from files: every way to write them, and every row that cannot be true."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from action_frames import day
from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import FixedClock, Symbol
from candlecast.domain.sources import ActionSource, Request
from candlecast.errors import NotFound

NOW = datetime(2024, 6, 1, tzinfo=UTC)
HEADER = "symbol,ex_date,kind,value"


def written(folder, text, name="actions.csv"):
    (folder / name).write_text(text)
    return folder / name


def fetched(paths, request=None, **parameters):
    provider = PROVIDERS.get("action_files")(paths, **parameters)
    assert isinstance(provider, ActionSource)
    answer = provider.fetch_actions(request or Request(), FixedClock(NOW))
    ACTIONS.check(answer.rows)
    return answer


def rows_of(answer):
    chosen = answer.rows.select("symbol", pl.col("ex_date").dt.date(), "kind", "value")
    return chosen.rows()


def test_a_table_of_kinds_and_values_is_read(tmp_path):
    text = f"{HEADER}\nAAPL,2014-06-09,split,7:1\nAAPL,2014-08-07,dividend,0.47\n"
    answer = fetched(written(tmp_path, text + "YHOO,2017-06-19,Delisting,\n"))
    assert answer.failures == {}
    assert rows_of(answer) == [
        ("AAPL", date(2014, 6, 9), "split", 7.0),
        ("AAPL", date(2014, 8, 7), "dividend", 0.47),
        ("YHOO", date(2017, 6, 19), "delisting", 0.0),
    ]
    assert answer.rows["known_at"].equals(answer.rows["ex_date"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7:1", 7), ("7 : 1", 7), ("1/8", 0.125), ("3-for-2", 1.5), ("3 for 2", 1.5),
        ("7.0", 7), (" 0.5 ", 0.5), ("1e-1", 0.1), ("1.5:1", 1.5),
    ],
)  # fmt: skip
def test_ratios_are_new_shares_for_one_old(tmp_path, text, value):
    answer = fetched(written(tmp_path, f"{HEADER}\nA,2014-06-09,split,{text}\n"))
    assert rows_of(answer)[0][-1] == pytest.approx(value)


def test_ratios_and_amounts_beside_each_other_are_actions_where_they_are_not_zero(tmp_path):
    text = "Date,Dividends,Stock Splits\n2014-05-08,0.47,0.0\n2014-05-09,0,0\n2014-06-09,,7.0\n"
    answer = fetched(written(tmp_path, text, "AAPL.csv"))
    assert rows_of(answer) == [
        ("AAPL", date(2014, 5, 8), "dividend", 0.47),
        ("AAPL", date(2014, 6, 9), "split", 7.0),
    ]


def test_other_names_and_parquet_with_types_are_understood(tmp_path):
    table = pl.DataFrame(
        {
            "Ticker": ["A", "A", "B"],
            "Date": [date(2020, 1, 3), date(2020, 1, 6), date(2020, 1, 6)],
            "Type": ["reverse_split", "Cash Dividend", "SPLIT"],
            "Ratio": [0.1, None, 2.0],
            "Amount": [None, 0.25, None],
        }
    )
    table.write_parquet(tmp_path / "events.parquet")
    assert [row[2:] for row in rows_of(fetched(tmp_path))] == [
        ("split", 0.1),
        ("dividend", 0.25),
        ("split", 2.0),
    ]


def test_an_action_is_known_when_its_row_says_so_and_never_later_than_now(tmp_path):
    text = (
        "symbol,ex_date,kind,value,declaration_date\n"
        "A,2014-06-09,split,7,2014-04-23\nA,2024-06-10,split,10,\n"
    )
    known = fetched(written(tmp_path, text)).rows["known_at"].to_list()
    assert known == [day("2014-04-23"), NOW]


def test_several_dividends_of_one_day_are_added_and_repetitions_count_once(tmp_path):
    text = f"{HEADER}\nA,2020-01-03,dividend,0.5\nA,2020-01-03,special dividend,3\n"
    written(tmp_path, text)
    assert rows_of(fetched(tmp_path)) == [("A", date(2020, 1, 3), "dividend", 3.5)]
    again = f"{HEADER}\nB,2020-01-03,split,2\nB,2020-01-03,split,2:1\n"
    written(tmp_path, again, "first.csv")
    written(tmp_path, again, "second.csv")
    assert rows_of(fetched([tmp_path / "first.csv", tmp_path / "second.csv"])) == [
        ("B", date(2020, 1, 3), "split", 2.0)
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("A,2020-13-03,split,2", "the date '2020-13-03' cannot be read"),
        ("A,,split,2", "the date '' cannot be read"),
        ("A,2020-01-03,merger,2", "'merger' is no split, dividend or delisting"),
        ("A,2020-01-03,,2", "'' is no split, dividend or delisting"),
        ("A,2020-01-03,split,", "the split '' cannot be read"),
        ("A,2020-01-03,split,two", "the split 'two' cannot be read"),
        ("A,2020-01-03,split,1:0", "the split '1:0' cannot be read"),
        ("A,2020-01-03,split,0", "a split of '0': new shares"),
        ("A,2020-01-03,split,-2", "a split of '-2': new shares"),
        ("A,2020-01-03,dividend,-0.5", "the dividend '-0.5' is negative"),
        ("A,2020-01-03,dividend,2:1", "the dividend '2:1' cannot be read"),
        ("A,2020-01-03,dividend,inf", "the dividend 'inf' cannot be read"),
    ],
)
def test_a_symbol_with_an_impossible_row_fails_with_file_and_line(tmp_path, row, reason):
    text = f"{HEADER}\nA,2019-01-03,split,2\nB,2019-01-03,split,3\n\n{row}\n"
    answer = fetched(written(tmp_path, text))
    assert rows_of(answer) == [("B", date(2019, 1, 3), "split", 3.0)]
    assert list(answer.failures) == ["A"]
    assert f"first {tmp_path.as_posix()}/actions.csv:5: {reason}" in answer.failures["A"]


def test_contradictions_are_refused(tmp_path):
    written(tmp_path, f"{HEADER}\nA,2020-01-03,split,2\nB,2020-01-03,dividend,1\n", "one.csv")
    written(tmp_path, f"{HEADER}\nA,2020-01-03,split,3\nB,2020-01-03,dividend,1.1\n", "two.csv")
    answer = fetched(tmp_path)
    assert answer.rows.is_empty()
    assert sorted(answer.failures) == ["A", "B"]
    assert "2.0 and 3.0 of one day are contradictory" in answer.failures["A"]


def test_a_row_without_a_symbol_and_a_bad_time_of_knowing_are_refused(tmp_path):
    text = "symbol,date,kind,value,known_at\n,2020-01-03,split,2,\nB,2020-01-03,split,2,soon\n"
    file = written(tmp_path, text).as_posix()
    failures = fetched(tmp_path).failures
    assert "the symbol is missing" in failures[f"{file}:2"]
    assert "when it was known, 'soon', cannot be read" in failures["B"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (f"{HEADER}\n", "is empty"),
        ("symbol,kind,value\nA,split,2\n", "no column for the ex-date"),
        ("symbol,date\nA,2020-01-03\n", "no column says what happened"),
        (f"{HEADER}\nA,2020-01-03,split,2,9\n", "line 2 has 5 cells, not 4"),
        (f"{HEADER}\nA,01/02/2020,split,2\n", "is the day or the month first"),
    ],
)
def test_a_file_that_cannot_be_used_fails_and_the_others_go_on(tmp_path, text, reason):
    bad = written(tmp_path, text, "bad.csv").as_posix()
    written(tmp_path, f"{HEADER}\nB,2020-01-03,split,2\n", "good.csv")
    answer = fetched(tmp_path)
    assert len(answer.rows) == 1
    assert reason in answer.failures[bad]


def test_only_what_is_asked_for_comes_back(tmp_path):
    text = f"{HEADER}\nA,2020-01-03,split,2\nA,2020-01-06,split,3\nB,2020-01-03,split,0\n"
    span = Request((Symbol("A"),), day("2020-01-03"), day("2020-01-06"))
    answer = fetched(written(tmp_path, text), span)
    assert rows_of(answer) == [("A", date(2020, 1, 3), "split", 2.0)]
    assert answer.failures == {}
    assert fetched(tmp_path, Request((Symbol("Z"),))).failures == {}


def test_nothing_to_read_is_said(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(NotFound, match=r"no (CSV or Parquet file|file or folder)"):
            fetched(path)


LEAN_ROWS = (
    "20140102,0.89,0.0357143,1\n20140507,0.89,0.0357143,592.33\n"
    "20140606,0.8946432,0.0357143,645.57\n20140806,0.8946432,0.25,94.97\n20501231,1,1,0\n"
)


def test_a_lean_factor_file_becomes_the_actions_of_the_following_sessions(tmp_path):
    answer = fetched(written(tmp_path, LEAN_ROWS, "aapl.csv"))
    found = [(*row[:3], round(row[3], 2)) for row in rows_of(answer)]
    assert found == [
        ("AAPL", date(2014, 5, 8), "dividend", 3.07),
        ("AAPL", date(2014, 6, 9), "split", 7.0),  # the Monday after
        ("AAPL", date(2014, 8, 7), "dividend", 10.01),
        ("AAPL", date(2014, 8, 7), "split", 4.0),
    ]


def test_a_lean_factor_file_as_a_table_is_the_same(tmp_path):
    written(tmp_path, LEAN_ROWS, "aapl.csv")
    header = "symbol,date,price_factor,split_factor,ref_price\n"
    lines = "".join(f"AAPL,{line}\n" for line in LEAN_ROWS.splitlines())
    table = written(tmp_path, header + lines, "table.csv")
    assert fetched(table).rows.equals(fetched(tmp_path / "aapl.csv").rows)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("20140606,inf,0.5,10", "of factors inf and 0.5"),
        ("20140606,0.9,0,10", "of factors 0.9 and 0"),
        ("20140606,x,0.5,10", "of factors x and 0.5"),
        ("20140606,0.9,0.5", "without a reference price"),
        ("20140606,0.9,0.5,", "without a reference price"),
        ("2014060,0.9,0.5,10", "the date '2014060' cannot be read"),
    ],
)
def test_factors_that_cannot_be_are_refused(tmp_path, row, reason):
    text = f"20140102,0.9,0.5,1\n{row}\n20501231,1,0.5,0\n"
    answer = fetched(written(tmp_path, text, "a.csv"))
    assert answer.rows.is_empty()
    assert reason in answer.failures["A"]
