"""Where networks are trained: what is set for that is put back, and what the user set stands."""

from __future__ import annotations

import os

import pytest

from candlecast.models.network_execution import Training, import_torch, reproducible
from candlecast.models.waiting_threads import WAIT_POLICY, passive_threads

TRAINING = Training(
    learning_rate=0.1,
    batch_size=8,
    n_epochs=1,
    max_rows=8,
    max_batches=1,
    max_validation_rows=8,
    weight_decay=0.0,
    patience=1,
    device="cpu",
    n_jobs=1,
    seed=7,
)


@pytest.mark.parametrize("only_warns", [True, False])
@pytest.mark.parametrize("was_strict", [True, False])
def test_determinism_is_put_back_as_the_caller_had_it(was_strict: bool, only_warns: bool) -> None:
    torch = import_torch()
    torch.use_deterministic_algorithms(was_strict, warn_only=only_warns)
    try:
        before = torch.get_deterministic_debug_mode()
        with reproducible(torch, TRAINING, "cpu"):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_deterministic_debug_mode() == before
        assert torch.is_deterministic_algorithms_warn_only_enabled() == only_warns
    finally:
        torch.use_deterministic_algorithms(False)


def test_libraries_are_loaded_with_passive_threads_and_other_programs_are_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WAIT_POLICY, raising=False)
    with passive_threads():
        assert os.environ[WAIT_POLICY] == "PASSIVE"
    assert WAIT_POLICY not in os.environ
    import_torch()
    assert WAIT_POLICY not in os.environ


def test_a_wait_policy_that_the_user_set_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_POLICY, "ACTIVE")
    with passive_threads():
        assert os.environ[WAIT_POLICY] == "ACTIVE"
    assert os.environ[WAIT_POLICY] == "ACTIVE"
