"""What a transformer looks at matters: without it forecasts get worse, without the rest not."""

import numpy as np
import pytest

from candlecast.metrics import pinball
from candlecast.models.transformer import Transformer
from planted_windows import marked, without_cells


@pytest.fixture(scope="module")
def model():
    return Transformer(
        n_width=8, n_heads=2, dropout=0.0, learning_rate=0.02, batch_size=256, n_epochs=14
    ).fit(marked(1, 3000))


@pytest.fixture(scope="module")
def later():
    return marked(101, 600)


def loss(model, examples):
    return pinball(model.predict(examples)[:, 0], examples.y[:, 0]).mean()


def test_shares_sum_to_one_and_are_nothing_where_there_is_no_bar(model, later):
    cells = np.random.default_rng(1).random((len(later), 6, 2)) < 0.4
    cells[:5] = True
    cells[5:20, :, 1] = True
    shares = model.attention(without_cells(later, cells))
    assert shares.shape == cells.shape
    assert (shares[cells] == 0).all()
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares[5:].sum(axis=(1, 2)), 1.0, rtol=1e-12)
    assert (shares[:5] == 0).all()


def test_it_looks_at_the_cell_that_holds_the_answer(model, later):
    shares = model.attention(later)
    is_marked = later.sequences.source.values[..., 0] > 0.5
    assert shares[is_marked].mean() > 3 / 12
    assert (shares[is_marked] == shares.max(axis=(1, 2))).mean() > 0.9


def test_without_what_it_looks_at_most_it_is_worse_than_without_anything_else(model, later):
    shares = model.attention(later)
    chance = np.random.default_rng(2).random(shares.shape)
    whole, without_most, without_any, without_least = (
        loss(model, later if cells is None else without_cells(later, cells))
        for cells in (None, highest(shares), highest(chance), highest(-shares))
    )
    assert without_most - whole > 3 * (without_any - whole)
    assert without_any > without_least
    assert without_least == pytest.approx(whole, rel=0.02)


def highest(scores):
    """The one cell of each row that scores highest."""
    return scores == scores.max(axis=(1, 2), keepdims=True)
