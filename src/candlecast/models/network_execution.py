"""How and where a network is trained: its settings, the device, threads and determinism."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

from candlecast.errors import InvalidSpec
from candlecast.models.waiting_threads import passive_threads

DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Training:
    """How a network is trained; see the models for what each number means."""

    learning_rate: float
    batch_size: int
    n_epochs: int
    max_rows: int
    max_batches: int
    max_validation_rows: int
    weight_decay: float
    patience: int
    device: str
    n_jobs: int
    seed: int

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InvalidSpec(f"device {self.device!r}: use {', '.join(DEVICES)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and field.name != "seed" and value < 1:
                raise InvalidSpec(f"{field.name} is {value}; it is at least 1")
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise InvalidSpec("learning_rate is positive, weight_decay is not negative")


@dataclass(frozen=True)
class Execution:
    """Where a network is trained, and whether in bfloat16 and compiled: both on a GPU only."""

    device: str
    is_reduced: bool
    is_compiled: bool


def choose_execution(device: str, *, has_cuda: bool, is_compilable: bool = True) -> Execution:
    """What `device` (auto, cpu or cuda) means on this machine; InvalidSpec for a GPU it lacks.

    A network is compiled on a GPU where that is of use (`is_compilable`).
    """
    if device == "cuda" and not has_cuda:
        raise InvalidSpec("device cuda: torch finds no GPU here; use device auto or cpu")
    on_gpu = has_cuda and device != "cpu"
    return Execution(
        "cuda" if on_gpu else "cpu", is_reduced=on_gpu, is_compiled=on_gpu and is_compilable
    )


def import_torch() -> Any:
    """torch; InvalidSpec says how to get it."""
    try:
        with passive_threads():
            import torch
    except ImportError as error:
        raise InvalidSpec(
            "networks are trained by torch; run `pip install 'candlecast[networks]'`"
        ) from error
    return torch


@contextmanager
def reproducible(torch: Any, training: Training, device: str) -> Iterator[None]:
    """On a CPU the same seed gives the same bytes; what is set for that is put back afterwards.

    A GPU draws from its own generator, which starts from the seed; its sums may differ.
    """
    n_threads, was_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    on_gpu = device == "cuda"
    torch.set_num_threads(training.n_jobs)
    torch.use_deterministic_algorithms(was_strict or not on_gpu, warn_only=on_gpu and only_warns)
    try:
        with torch.random.fork_rng(enabled=on_gpu), warnings.catch_warnings():
            # cuDNN would have the weights of its layers side by side, and copies them if not.
            warnings.filterwarnings("ignore", "RNN module weights", UserWarning)
            if on_gpu:
                torch.cuda.manual_seed(training.seed)
            yield
    finally:
        torch.use_deterministic_algorithms(was_strict, warn_only=only_warns)
        torch.set_num_threads(n_threads)
