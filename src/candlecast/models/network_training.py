"""The training loop of networks: torch, on a GPU where there is one, the same for a seed on CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candlecast.domain.distribution import LEVELS, FloatArray
from candlecast.domain.examples import Examples
from candlecast.errors import FitFailed
from candlecast.models.network_execution import (
    Training,
    choose_execution,
    import_torch,
    reproducible,
)
from candlecast.models.network_operations import (
    Inputs,
    Operations,
    Tensor,
    TorchOperations,
    Weights,
    class_scores,
    distribution,
)
from candlecast.models.network_windows import WindowReader, has_bars, sequences_of

N_CHECKS: Final = 12
"""So many times in a full training the network is tried on later rows."""
WARM_UP_SHARE: Final = 0.1
MAX_GRADIENT: Final = 1.0
LOCATION_PENALTY: Final = 0.02
GAP_PENALTY: Final = 0.002
"""What the square of a location, and of a change of a gap, costs beside the pinball loss."""
CLASS_SHARE: Final = 0.02
"""What the classes count beside the pinball loss: they only help the trunk to see direction."""

Trunk = Callable[[Operations, Inputs], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Rowset:
    """The examples that a network is trained or tried on, with what it is to say of them."""

    examples: Examples
    reader: WindowReader
    centre: FloatArray
    bounds: FloatArray

    def batch(self, rows: NDArray[np.integer]) -> tuple[Inputs, dict[str, NDArray[Any]]]:
        """Inputs and targets of the rows at these positions."""
        examples = self.examples.take(rows)
        inputs = self.reader.inputs(sequences_of(examples), np.arange(len(rows)))
        target = examples.targets() - self.centre
        known = ~np.isnan(target) & has_bars(inputs)[:, None]
        target = np.where(known, target, 0.0)
        told = {
            "target": target.astype(np.float32),
            "weight": (known * examples.weight[:, None]).astype(np.float32),
            "class": (target[..., None] > self.bounds).sum(axis=-1),
        }
        return inputs, told


class Trainer:
    """Trains the weights of a network whose trunk is `trunk`; `training` says how."""

    def __init__(
        self, trunk: Trunk, training: Training, n_horizons: int, *, is_compilable: bool
    ) -> None:
        self._torch = import_torch()
        self._trunk, self._training, self._n_horizons = trunk, training, n_horizons
        self._execution = choose_execution(
            training.device,
            has_cuda=bool(self._torch.cuda.is_available()),
            is_compilable=is_compilable,
        )
        levels = LEVELS.astype(np.float32)
        self._levels = self._torch.tensor(levels, device=self._execution.device)

    def fit(self, weights: Weights, constants: Weights, early: Rowset, later: Rowset) -> Weights:
        """The weights at which `later` rows were forecast best, none of which were trained on."""
        torch, training = self._torch, self._training
        with reproducible(torch, training, self._execution.device):
            fixed = self._placed(constants)
            learnt = {
                name: tensor.requires_grad_() for name, tensor in self._placed(weights).items()
            }
            order = np.random.default_rng(training.seed)
            batches = list(_plan(len(early.examples), training, order))
            optimiser = self._optimiser(learnt)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _pace(len(batches)))
            step = self._make_step(learnt, fixed)
            tried = spaced(len(later.examples), training.max_validation_rows)
            best = Best(training.patience, self._loss_on(later, tried, learnt | fixed), learnt)
            every = max(1, len(batches) // N_CHECKS)
            for number, rows in enumerate(batches, 1):
                optimiser.zero_grad()
                step(*self._batch(early, rows)).backward()
                torch.nn.utils.clip_grad_norm_(list(learnt.values()), MAX_GRADIENT)
                optimiser.step()
                schedule.step()
                if number % every == 0 or number == len(batches):
                    loss = self._loss_on(later, tried, learnt | fixed)
                    if best.is_over(loss, learnt):
                        break
            return best.weights

    def answers(
        self, weights: Weights, reader: WindowReader, examples: Examples
    ) -> tuple[FloatArray, FloatArray]:
        """Location (n_rows, n_horizons) and spread (n_rows, n_horizons, 17), in float32."""
        torch = self._torch
        found: list[tuple[Any, Any]] = []
        with reproducible(torch, self._training, "cpu"), torch.no_grad():
            ops = TorchOperations(torch, {k: torch.from_numpy(v) for k, v in weights.items()})
            for place, inputs in reader.batches(sequences_of(examples)):
                n = place.stop - place.start
                trunk, _ = self._trunk(ops, _on(torch, inputs, "cpu"))
                location, spread, _ = distribution(ops, trunk, self._n_horizons)
                found.append((location[:n].numpy(), spread[:n].numpy()))
        return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])

    def _placed(self, weights: Weights) -> dict[str, Tensor]:
        device = self._execution.device
        return {name: self._torch.tensor(value, device=device) for name, value in weights.items()}

    def _optimiser(self, learnt: Mapping[str, Tensor]) -> Any:
        training = self._training
        decayed = [tensor for tensor in learnt.values() if tensor.ndim > 1]
        free = [tensor for tensor in learnt.values() if tensor.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": training.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        return self._torch.optim.AdamW(groups, lr=training.learning_rate)

    def _make_step(self, learnt: dict[str, Tensor], fixed: dict[str, Tensor]) -> Any:
        torch = self._torch
        on_gpu = self._execution.device == "cuda"  # which draws from its own generator
        generator = "device" if on_gpu else torch.Generator().manual_seed(self._training.seed)
        step = partial(self._loss, TorchOperations(torch, learnt | fixed, generator))
        return torch.compile(step) if self._execution.is_compiled else step

    def _batch(self, rowset: Rowset, rows: NDArray[np.integer]) -> tuple[Inputs, dict[str, Tensor]]:
        inputs, told = rowset.batch(rows)
        device = self._execution.device
        placed = {name: self._torch.as_tensor(v, device=device) for name, v in told.items()}
        return _on(self._torch, inputs, device), placed

    def _loss(self, ops: Operations, inputs: Inputs, told: dict[str, Tensor]) -> Tensor:
        # With and without the location, for it may not be believed in the end.
        location, spread, raw, classes = self._outputs(ops, inputs)
        target, weight = told["target"], told["weight"]
        both = (self._pinball(target - location, spread) + self._pinball(target, spread)) / 2
        cross = self._torch.nn.functional.cross_entropy(
            classes.flatten(0, 1), told["class"].flatten(), reduction="none"
        ).view_as(weight)
        penalty = LOCATION_PENALTY * location**2 + GAP_PENALTY * (raw**2).mean(dim=-1)
        return _average(both + CLASS_SHARE * cross + penalty, weight)

    def _outputs(self, ops: Operations, inputs: Inputs) -> tuple[Tensor, ...]:
        torch, execution = self._torch, self._execution
        with torch.autocast(execution.device, torch.bfloat16, enabled=execution.is_reduced):
            trunk, _ = self._trunk(ops, inputs)
        trunk = trunk.float()  # the heads are small, and rounding would show in the tails
        classes = class_scores(ops, trunk, self._n_horizons)
        return (*distribution(ops, trunk, self._n_horizons), classes)

    def _pinball(self, target: Tensor, spread: Tensor) -> Tensor:
        error = target[..., None] - spread
        over, under = self._levels * error, (self._levels - 1) * error
        return self._torch.maximum(over, under).mean(dim=-1)

    def _loss_on(
        self, later: Rowset, rows: NDArray[np.integer], weights: dict[str, Tensor]
    ) -> float:
        # The better of with and without the location: only one of them will be believed.
        torch = self._torch
        ops = TorchOperations(torch, weights)
        sums = np.zeros(3)
        with torch.no_grad():
            for start in range(0, len(rows), 1024):
                inputs, told = self._batch(later, rows[start : start + 1024])
                location, spread, _, _ = self._outputs(ops, inputs)
                target, weight = told["target"], told["weight"]
                losses = (
                    (weight * self._pinball(target - location, spread)).sum(),
                    (weight * self._pinball(target, spread)).sum(),
                    weight.sum(),
                )
                sums += [float(part) for part in losses]
        if sums[2] == 0:
            return 0.0
        loss = float(sums[:2].min() / sums[2])
        if not np.isfinite(loss):
            raise FitFailed("the network's loss is no number; lower learning_rate")
        return loss


class Best:
    """The best weights so far, and whether it is time to stop looking for better ones."""

    def __init__(self, patience: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        self._patience, self._loss, self._n_worse = patience, loss, 0
        self.weights = _copied(weights)

    def is_over(self, loss: float, weights: Mapping[str, Tensor]) -> bool:
        """Take note of a loss; True once the last `patience` were no better than one before."""
        if loss < self._loss:
            self._loss, self._n_worse, self.weights = loss, 0, _copied(weights)
        else:
            self._n_worse += 1
        return self._n_worse >= self._patience


def _copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in weights.items()}


def _average(loss: Tensor, weight: Tensor) -> Tensor:
    return (loss * weight).sum() / weight.sum().clamp_min(1e-6)


def _plan(
    n_rows: int, training: Training, rng: np.random.Generator
) -> Iterator[NDArray[np.integer]]:
    # The rows of each batch: a sample of all, in a new order each time round.
    n_left = training.max_batches
    sample = rng.permutation(n_rows)[: training.max_rows]
    for _ in range(training.n_epochs):
        order = rng.permutation(sample)
        for start in range(0, len(order), training.batch_size):
            if n_left == 0:
                return
            n_left -= 1
            yield np.sort(order[start : start + training.batch_size])


def _pace(n_steps: int) -> Callable[[int], float]:
    # Up in a line, then down along a cosine.
    n_up = max(1, round(WARM_UP_SHARE * n_steps))

    def pace(step: int) -> float:
        if step < n_up:
            return (step + 1) / n_up
        done = (step - n_up) / max(1, n_steps - n_up)
        return float(0.5 * (1 + np.cos(np.pi * min(done, 1.0))))

    return pace


def spaced(n_rows: int, most: int) -> NDArray[np.int64]:
    """At most `most` positions of `n_rows`, evenly apart."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).round().astype(np.int64))


def _on(torch: Any, inputs: Inputs, device: str) -> Inputs:
    parts = (inputs.values, inputs.mask, inputs.age)
    return Inputs(*(torch.as_tensor(part, device=device) for part in parts))
