"""One bar to one forecast on the chart, and on to its score."""

from story import tell


def test_one_bar_becomes_a_forecast_on_the_chart_and_later_a_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    tell(f"sqlite:///{tmp_path}/var/candlecast.db", tmp_path)
