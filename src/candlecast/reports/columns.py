"""The columns of the tables on the page: name in the frame, title, and how a value is written."""

from __future__ import annotations

from typing import Final

from candlecast.reports.cards import BANDS
from candlecast.reports.tables import count, percent, probability, signed, small, text

HORIZON: Final = ("horizon", "horizon", text)
PART: Final = ("part", "part", text)
COVERAGES: Final = tuple(
    (f"coverage_{level * 100:g}", f"in {level:.0%} band", percent) for level in BANDS
)
SHORT: Final = (
    ("n", "forecasts", count),
    ("crps", "CRPS", small),
    ("crps_skill_climatology", "CRPS skill", signed),
    ("direction_accuracy", "direction", percent),
    ("rank_ic", "rank IC", small),
    *COVERAGES,
)
LOSSES: Final = (
    *SHORT[:3],
    ("pinball", "pinball", small),
    ("brier", "Brier", small),
    ("rps", "RPS", small),
    ("direction_accuracy", "direction", percent),
    ("direction_accuracy_low", "from", percent),
    ("direction_accuracy_high", "to", percent),
)
ERRORS: Final = (
    ("mse", "MSE", small),
    ("rmse", "RMSE", small),
    ("mae", "MAE", small),
    ("r2", "R²", signed),
    ("ic", "IC", small),
    ("icir", "ICIR", small),
    ("rank_ic", "rank IC", small),
    ("rank_icir", "rank ICIR", small),
)
COMPARED: Final = (
    HORIZON,
    PART,
    ("loss", "of the", text),
    ("reference", "against", text),
    ("skill", "loss saved", signed),
    ("low", "from", signed),
    ("high", "to", signed),
    ("p_value", "p, bootstrap", probability),
    ("dm_p_value", "p, DM", probability),
    ("dm_p_adjusted", "p, Holm", probability),
    ("deflated_sharpe", "deflated Sharpe", probability),
    ("verdict", "verdict", text),
)
