"""Reports on disk: whole or not at all, in nobody else's place, the same bytes every time."""

import json
import os
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from candlecast.errors import Conflict
from candlecast.reports import files
from candlecast.reports.drawing import VARIABLES
from candlecast.reports.files import check_folder, write_report
from candlecast.reports.plots import contribution_plot
from candlecast.reports.tables import probability, signed, text
from evaluations import make_evaluation

NAMES = {
    *("report.html", "metrics.json", "per_fold.csv", "per_symbol.csv", "per_year.csv"),
    *("calibration.csv", "importances.csv"),
}
EVALUATION = make_evaluation()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "deep" / "report"
    write_report(folder, EVALUATION)
    return folder


def test_a_report_is_a_page_numbers_and_tables(report):
    assert set(content(report)) == NAMES
    values = json.loads((report / "metrics.json").read_bytes())
    assert len(values["top_features"]["gain"]) == 10
    assert values["top_features"]["gain"][0]["feature"] == "feature_00"
    assert values["verdicts"]["holdout"]["overall"]["verdict"]
    assert {row["part"] for row in values["overall"]} == {"all", "development", "holdout"}
    assert pl.read_csv(report / "per_fold.csv")["n"].sum() == EVALUATION.per_fold["n"].sum()
    assert pl.read_csv(report / "importances.csv").columns[:3] == ["measure", "rank", "feature"]


def test_writing_it_again_gives_the_same_bytes_and_leaves_nothing_else_behind(report):
    before = content(report)
    write_report(report, make_evaluation())
    assert content(report) == before
    assert list(report.parent.iterdir()) == [report]


def test_what_is_no_report_is_left_alone(tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    check_folder(folder)
    (folder / "metrics.json").write_text('{"kind": "of somebody else"}')
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    for name in ("letters", "file", "link"):
        with pytest.raises(Conflict, match="name another"):
            write_report(tmp_path / name, EVALUATION)
    assert content(folder) == {"metrics.json": b'{"kind": "of somebody else"}'}


def test_an_older_report_with_other_things_beside_it_is_left_alone(tmp_path):
    folder = tmp_path / "report"
    write_report(folder, EVALUATION)
    (folder / "notes.md").write_text("mine")
    before = content(folder)
    with pytest.raises(Conflict, match=r"notes\.md.*name another"):
        write_report(folder, EVALUATION)
    assert content(folder) == before
    (folder / "notes.md").unlink()
    (folder / "per_year.csv").unlink()
    write_report(folder, EVALUATION)
    assert set(content(folder)) == files.NAMES == NAMES
    (folder / "per_year.csv").unlink()
    (folder / "per_year.csv").mkdir()
    with pytest.raises(Conflict, match=r"per_year\.csv"):
        check_folder(folder)


@pytest.mark.parametrize("name", [".", "..", "below/.."])
def test_the_folder_that_one_works_in_is_refused_before_the_work(tmp_path, monkeypatch, name):
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below" if name == "." else tmp_path / "here")
    with pytest.raises(Conflict, match=r"cannot be replaced.*name another"):
        check_folder(Path(name))


def test_a_folder_that_cannot_be_moved_or_made_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Conflict, match="nothing can be written into"):
        check_folder(tmp_path / "file" / "deep" / "report")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda _, mode: mode == os.F_OK)
        with pytest.raises(Conflict, match="nothing can be written into"):
            check_folder(tmp_path / "report")
    assert check_folder(tmp_path / "report") == tmp_path / "report"
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "report")
    with pytest.raises(Conflict, match="cannot be replaced"):
        check_folder(tmp_path / "report")


def test_a_table_holds_no_formula_and_a_plot_no_mathematics(tmp_path):
    symbol = '=HYPERLINK("x")'
    write_report(tmp_path / "report", make_evaluation(symbol))
    found = pl.read_csv(tmp_path / "report" / "per_symbol.csv")["symbol"].to_list()
    assert f"'{symbol}" in found
    assert not any(text_of[0] in "=+@\t" for text_of in found)
    assert "BRK$A_{$" in contribution_plot("BRK$A_{$", {"x": 0.1})


def test_a_report_that_cannot_be_finished_leaves_the_old_one(report, monkeypatch):
    before = content(report)

    def fail(_):
        raise OSError("the disk is full")

    monkeypatch.setattr(files, "page", fail)
    with pytest.raises(OSError, match="full"):
        write_report(report, EVALUATION)
    assert content(report) == before
    assert list(report.parent.iterdir()) == [report]


class Page(HTMLParser):
    """Its tags, ids and links."""

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [v for n, v in attrs if n in {"src", "href", "xlink:href"}]


def test_the_page_needs_nothing_else_and_runs_nothing():
    hostile = make_evaluation('<script>alert("x")</script>')
    text_of = files.page(hostile)
    page = Page()
    page.feed(text_of)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert "http" not in text_of.replace("http://www.w3.org/", "")
    assert "&lt;script&gt;" in text_of
    assert not any(colour in text_of for colour in VARIABLES)


def test_the_page_says_where_it_comes_from(report):
    text_of = unescape((report / "report.html").read_text(encoding="utf-8"))
    facts = ("2015-07-20", "0123456789abcdef", "[model]", "AAA, BBB, CCC", "12 different models")
    assert all(fact in text_of for fact in facts)
    assert EVALUATION.verdicts["all"]["overall"]["sentence"] in text_of
    assert "all models tried (Holm)" in text_of


def test_numbers_are_written_as_people_read_them():
    assert (text(None), text("<b>")) == ("–", "&lt;b&gt;")
    assert probability(0.0001) == "&lt; 0.001"
    assert (signed(-0.0123), signed(None)) == ('<span class="bad">−1.23 %</span>', "–")
