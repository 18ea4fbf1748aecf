"""Networks find what lies in windows, say nothing where there is nothing, and are saved whole."""

import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from candlecast.domain import distribution as dist
from candlecast.domain.catalog import FEATURES, MODELS, Attentive, SequenceModel
from candlecast.domain.specs import TensorSpec
from candlecast.errors import BadArtifact, FitFailed, InvalidSpec, NotFitted
from candlecast.metrics import pinball
from candlecast.models import network_training
from candlecast.models.linear import Linear
from candlecast.models.network import GRAPH, SequenceNetwork
from candlecast.models.network_execution import Execution, choose_execution
from candlecast.models.network_operations import Inputs, Sizes, TorchOperations
from markets import TENSORS, make_examples
from planted_windows import MARKED, N_MEMORY, GivenWindows, marked, remembered

SMALL = {
    "lstm": {"n_hidden": 8, "n_layers": 1, "learning_rate": 0.01, "batch_size": 128},
    "transformer": {"n_width": 8, "n_heads": 2, "learning_rate": 0.02, "batch_size": 128},
}
every_kind = pytest.mark.parametrize("kind", sorted(SMALL))


def network(kind, **parameters):
    return MODELS.get(kind)(**(SMALL[kind] | {"n_epochs": 6, "patience": 12} | parameters))


def loss(quantiles, examples):
    return pinball(quantiles[:, 0], examples.y[:, 0]).mean()


@pytest.fixture(scope="module")
def learnt():
    training = remembered(1, 2000)
    return {kind: network(kind).fit(training) for kind in SMALL}


@every_kind
def test_a_memory_of_five_bars_is_found_that_the_newest_bar_does_not_tell(kind, learnt):
    later = remembered(101, 1500)
    told = later.sequences.source.values[:, -N_MEMORY:, 0, 0].mean(axis=1) * N_MEMORY**0.5
    known = later.scale * np.exp(0.7 * told)
    truth = loss(known[:, None, None] * dist.SCORES, later)
    of_newest = loss(Linear().fit(remembered(1, 2000)).predict(later), later)
    found = loss(learnt[kind].predict(later), later)
    assert truth < found < truth + 0.6 * (of_newest - truth)


@every_kind
def test_what_only_a_coarser_timeframe_tells_is_found(kind):
    training, later = (marked(seed, 1500) for seed in (3, 4))
    for examples in (training, later):
        source = examples.sequences.source
        told = source.values[:, :, 1, 1].mean(axis=1) * source.spec.n_steps**0.5
        examples.y[:] *= np.exp(0.8 * told - 0.8 * shock_of(examples))[:, None]
    found = loss(network(kind, learning_rate=0.01).fit(training).predict(later), later)
    blind = loss(network(kind, n_epochs=1, max_batches=1).fit(training).predict(later), later)
    assert found < 0.93 * blind


def shock_of(examples):
    values = examples.sequences.source.values
    return (values[..., 0] * values[..., 1]).sum(axis=(1, 2))


@every_kind
def test_a_direction_is_believed_where_it_is_there_and_nowhere_else(kind):
    with_edge = network(kind, n_epochs=12).fit(
        make_examples(seed=5, edge=0.5, volatility_signal=0.0)
    )
    without = network(kind).fit(make_examples(seed=6, volatility_signal=0.0))
    rows = make_examples(seed=8).without_outcomes()
    signal = rows.column("signal")
    medians = with_edge.predict(rows)[:, 0, dist.MEDIAN] / rows.scale
    assert np.corrcoef(medians, signal)[0, 1] > 0.9
    moved = without.predict(rows)[..., dist.MEDIAN] / rows.horizon_scale()
    assert np.abs(moved - moved.mean(axis=0)).max() < 0.15


@every_kind
def test_before_it_has_learnt_anything_it_says_what_the_training_targets_were(kind):
    examples = make_examples(seed=9)
    model = network(kind, learning_rate=1e-9, n_epochs=1, max_batches=1).fit(examples)
    standard = model.predict(examples) / examples.horizon_scale()[..., None]
    np.testing.assert_allclose(standard, np.broadcast_to(standard[0], standard.shape), atol=1e-5)
    targets = examples.targets()[:, 0]
    own = np.nanquantile(targets, dist.LEVELS)
    assert np.abs(standard[0, 0] - own).max() < 0.35
    assert (np.diff(standard[0]) > 0).all()


@every_kind
def test_rows_without_a_bar_are_given_that_too_and_change_nothing_for_others(kind, learnt):
    rows = remembered(102, 40).without_outcomes()
    source = rows.sequences.source
    mask = source.mask.copy()
    mask[::2] = False
    hidden = GivenWindows(source.spec, np.full_like(source.values, np.nan), mask)
    hidden.values[1::2] = source.values[1::2]
    blind = replace(rows, sequences=replace(rows.sequences, source=hidden))
    found, seen = learnt[kind].predict(blind), learnt[kind].predict(rows)
    np.testing.assert_array_equal(found[1::2], seen[1::2])
    assert len(np.unique(found[::2], axis=0)) == 1
    assert not np.array_equal(found[0], seen[0])


@every_kind
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(kind, tmp_path):
    import torch

    examples = make_examples(seed=10)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    saved = []
    for number, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        network(kind, seed=seed, n_epochs=1).fit(examples).save(folder)
        saved.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert saved[0] == saved[1]
    assert saved[0][GRAPH] != saved[2][GRAPH]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@every_kind
def test_what_is_loaded_and_saved_again_is_the_same_to_the_last_bit(kind, learnt, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    rows = remembered(103, 30).without_outcomes()
    for folder, model in ((first, learnt[kind]), (second, None)):
        folder.mkdir()
        loaded = type(learnt[kind]).load(first) if model is None else model
        np.testing.assert_array_equal(loaded.predict(rows), learnt[kind].predict(rows))
        loaded.save(folder)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert sum(path.stat().st_size for path in first.iterdir()) < 50e6


def test_loaded_networks_forecast_without_torch(learnt, tmp_path):
    for kind, model in learnt.items():
        (tmp_path / kind).mkdir()
        model.save(tmp_path / kind)
    code = (
        "import sys; from pathlib import Path; from candlecast.domain.catalog import MODELS; "
        "from planted_windows import remembered; "
        "[MODELS.get(folder.name).load(folder).predict(remembered(1, 20)) "
        "for folder in Path(sys.argv[1]).iterdir()]; "
        "print({'torch', 'safetensors', 'onnx'} & {*sys.modules})"
    )
    folder = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, timeout=120
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@every_kind
def test_the_weights_that_are_saved_are_those_of_the_graph(kind, learnt, tmp_path):
    import torch
    from safetensors.numpy import load_file

    learnt[kind].save(tmp_path)
    model, rows = learnt[kind], remembered(104, 8)
    weights = load_file(tmp_path / "weights.safetensors")
    sizes = model._reader.sizes(1)
    constants = model.make_constants(sizes)
    ops = TorchOperations(torch, {k: torch.from_numpy(v) for k, v in (weights | constants).items()})
    inputs = model._reader.inputs(rows.sequences, np.arange(8))
    given = Inputs(*(torch.from_numpy(part) for part in vars(inputs).values()))
    trunk, _ = model.trunk(ops, given, sizes)
    location = trunk @ ops.weight("location.weight") + ops.weight("location.bias")
    np.testing.assert_allclose(location.numpy(), model._run(rows)[0], atol=1e-5)


@every_kind
def test_a_graph_that_says_something_else_is_not_taken(kind, monkeypatch):
    true = MODELS.get(kind).trunk

    def false(self, ops, inputs, sizes):
        trunk, attention = true(self, ops, inputs, sizes)
        return (trunk if isinstance(ops, TorchOperations) else ops.scaled(trunk, 1.1)), attention

    monkeypatch.setattr(MODELS.get(kind), "trunk", false)
    with pytest.raises(BadArtifact, match="is off by"):
        network(kind).fit(make_examples(seed=11))


def test_rows_without_windows_or_with_others_are_refused_with_the_remedy(learnt):
    rows = remembered(105, 16)
    with pytest.raises(InvalidSpec, match="carry none"):
        learnt["lstm"].predict(replace(rows, sequences=None))
    other = replace(rows.sequences.source, spec=TensorSpec(("1d",), ("shock",), 9))
    with pytest.raises(InvalidSpec, match="other windows"):
        learnt["lstm"].predict(replace(rows, sequences=replace(rows.sequences, source=other)))
    with pytest.raises(NotFitted):
        network("lstm").predict(rows)
    with pytest.raises(FitFailed, match="needs 40"):
        network("lstm").fit(remembered(1, 30))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"device": "gpu"}, "use auto, cpu, cuda"),
        ({"n_epochs": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "positive"),
        ({"dropout": 1.0}, "dropout lies"),
    ],
)
@every_kind
def test_settings_that_make_no_sense_are_told(kind, parameters, message):
    with pytest.raises((InvalidSpec, ValueError), match=message):
        network(kind, **parameters)


def test_on_a_gpu_it_is_compiled_and_in_bfloat16_and_on_a_cpu_neither():
    assert choose_execution("auto", has_cuda=False) == Execution("cpu", False, False)
    assert choose_execution("cpu", has_cuda=True) == Execution("cpu", False, False)
    assert choose_execution("auto", has_cuda=True) == Execution("cuda", True, True)
    only_reduced = Execution("cuda", is_reduced=True, is_compiled=False)
    assert choose_execution("cuda", has_cuda=True, is_compilable=False) == only_reduced
    with pytest.raises(InvalidSpec, match="no GPU here"):
        choose_execution("cuda", has_cuda=False)


@every_kind
def test_on_a_gpu_it_says_the_same(kind):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("NO GPU HERE: training on CUDA was not tried")
    examples, later = remembered(1, 2000), remembered(101, 500)
    losses = [
        loss(network(kind, device=name).fit(examples).predict(later), later)
        for name in ("cpu", "cuda")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@every_kind
def test_what_is_done_on_a_gpu_alone_works_as_far_as_a_cpu_can_show_it(kind, monkeypatch):
    import torch

    # Its precision, and what is given to the compiler.
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda step: compiled.append(kind) or step)
    monkeypatch.setattr(
        network_training,
        "choose_execution",
        lambda *_, **given: Execution("cpu", True, given["is_compilable"]),
    )
    later = remembered(101, 1000)
    found = loss(network(kind).fit(remembered(1, 1000)).predict(later), later)
    assert found < 0.98 * loss(Linear().fit(remembered(1, 1000)).predict(later), later)
    assert compiled == (["transformer"] if kind == "transformer" else [])


def test_no_more_rows_and_batches_are_looked_at_than_allowed(monkeypatch):
    seen = []
    take = GivenWindows.take

    def counted(self, rows):
        seen.append(np.asarray(rows))
        return take(self, rows)

    monkeypatch.setattr(GivenWindows, "take", counted)
    network("lstm", max_rows=200, max_validation_rows=50, n_epochs=9, max_batches=12).fit(
        remembered(1, 1000)
    )
    trained = [rows for rows in seen if 0 < len(rows) <= 128 and rows.max() < 800]
    assert max(map(len, seen)) <= 256
    assert len({int(row) for rows in trained for row in rows}) <= 200 + 64


def test_they_take_the_windows_they_say():
    names = tuple(
        name for name in ("return_1", "har_252", "news_sentiment_24h") if name in FEATURES
    )
    lstm, transformer = (MODELS.get(kind) for kind in ("lstm", "transformer"))
    assert isinstance(lstm, SequenceModel)
    assert isinstance(transformer, SequenceModel)
    assert isinstance(network("transformer"), Attentive)
    assert not isinstance(network("lstm"), Attentive)
    assert lstm.default_tensors("1h", names) == TensorSpec(("1h",), ("return_1", "har_252"), 60)
    several = TensorSpec(("5m", "15m", "1h", "1d"), ("return_1",), 60)
    assert transformer.default_tensors("5m", names) == several
    assert transformer.default_tensors("1d", names).features == ("return_1", "har_252")
    assert signature(lstm).parameters["n_hidden"].default == 50
    assert TENSORS.n_steps < 60
    assert MARKED.timeframes == ("1h", "1d")
    assert issubclass(lstm, SequenceNetwork)
    assert Sizes(1, 2, 3, 4).n_horizons == 4
