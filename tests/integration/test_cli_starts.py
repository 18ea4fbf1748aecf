"""Processes of their own: several that start at once on an empty database, one that is stopped."""

import signal
from dataclasses import replace

from candlecast.domain.spec_text import as_toml
from candlecast.domain.specs import ModelSpec
from candlecast.models.boosting import LightGbm
from command_line import call, ended, start
from markets import make_examples
from pipeline_rows import HAR, all_rows, sample_bars

TOGETHER = 3


def test_all_that_start_at_once_bring_an_empty_database_to_the_newest_schema(
    database_url, tmp_path
):
    variables = {"CANDLECAST_DATABASE_URL": database_url}
    command = ("db", "upgrade", "--json")
    started = [start(*command, folder=tmp_path, **variables) for _ in range(TOGETHER)]
    answers = [ended(process) for process in started]
    assert [(answer.code, answer.err) for answer in answers] == [(0, "")] * TOGETHER
    rows = all_rows(database_url)
    assert rows["alembic_version"] == [f"('{answers[0].json()['revision']}',)"]
    assert len(rows["database_identity"]) == 1


def test_what_the_converter_leaves_to_chance_is_put_in_order(tmp_path):
    import onnx

    # Else processes that train the same at once would not agree on the files' hashes.
    LightGbm(n_estimators=3).fit(make_examples(seed=1)).save(tmp_path)
    models = [onnx.load(path) for path in sorted(tmp_path.glob("*.onnx"))]
    assert models
    for model in models:
        assert [opset.domain for opset in model.opset_import] == ["", "ai.onnx.ml"]
        assert model.graph.name == "trees"


def test_a_run_that_is_stopped_registers_nothing_and_can_be_taken_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample_bars("AAPL", "IBM", n_sessions=900).write_parquet("bars.parquet")
    assert call("ingest", "files", "bars.parquet").code == 0
    for name, kind in (("long", "lightgbm"), ("short", "har")):
        spec = as_toml(replace(HAR, model=ModelSpec(kind)))
        (tmp_path / f"{name}.toml").write_text(spec, encoding="utf-8")
    process = start("train", "long.toml", folder=tmp_path)
    assert any(line.startswith("walk-forward: 1/") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    stopped = ended(process)
    assert stopped.code == 130
    assert "Traceback" not in stopped.err
    url = f"sqlite:///{tmp_path}/var/candlecast.db"
    rows = all_rows(url)
    assert rows["ml_model_versions"] == rows["ml_predictions"] == []
    assert call("train", "short.toml").code == 0
    assert len(all_rows(url)["ml_model_versions"]) == 1
