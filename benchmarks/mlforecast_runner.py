"""Run by mlforecast's own Python: one LightGBM, conformal intervals, on one core, as JSON."""

import json
import sys
import warnings
from time import perf_counter
from typing import Any

import numpy as np
from mlforecast import MLForecast, __version__
from mlforecast.lag_transforms import RollingMean, RollingStd
from mlforecast.target_transforms import Differences
from mlforecast.utils import PredictionIntervals

LEVELS = [20, 40, 50, 60, 80, 90, 95, 98]
LAGS = [1, 2, 3, 5, 10, 21]


def main() -> None:
    """Arguments: file with bars, where to save quantiles, and JSON of the task."""
    from pandas import DataFrame

    path, saved, task = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    bars = np.load(path)
    frame = DataFrame(
        {"unique_id": bars["symbol"], "ds": bars["session"], "y": np.log(bars["close"])}
    )
    warnings.simplefilter("ignore")  # of pandas, about how it is called
    started_at = perf_counter()
    made = _forecast(frame, task)
    seconds = perf_counter() - started_at
    columns = ["LGBMRegressor-lo-" + str(level) for level in reversed(LEVELS)]
    columns += ["LGBMRegressor"] + ["LGBMRegressor-hi-" + str(level) for level in LEVELS]
    np.savez(
        saved,
        symbol=made["unique_id"].to_numpy(),
        session=made["ds"].to_numpy(),
        cutoff=made["cutoff"].to_numpy(),
        quantiles=made[columns].to_numpy(),
    )
    print(json.dumps({"seconds": seconds, "version": __version__}))


def _forecast(frame: Any, task: dict[str, Any]) -> Any:
    from lightgbm import LGBMRegressor

    learner = LGBMRegressor(
        n_estimators=task["n_estimators"],
        learning_rate=task["learning_rate"],
        num_leaves=task["num_leaves"],
        n_jobs=1,
        random_state=7,
        verbosity=-1,
    )
    transforms = [RollingMean(5), RollingMean(21), RollingStd(5), RollingStd(21), RollingStd(63)]
    model = MLForecast(
        models=[learner],
        freq=1,
        lags=LAGS,
        lag_transforms={1: transforms},
        target_transforms=[Differences([1])],
        num_threads=1,
    )
    return model.cross_validation(
        frame,
        n_windows=task["n_windows"],
        h=task["h"],
        step_size=task["h"],
        refit=False,
        prediction_intervals=PredictionIntervals(n_windows=task["n_scores"], h=task["h"]),
        level=LEVELS,
    )


if __name__ == "__main__":
    main()
