"""Times as files write them, turned into instants.

1. Typed columns are converted; numbers are counts since 1970, their unit told by their size.
2. Text is tidied (T, Z, UTC, slashes) and read with the one format that fits most rows; what it
   does not fit becomes null. Where day and month cannot be told apart all is refused.
3. Times without a zone stand in the given one. A daily bar is stamped midnight UTC of the date
   as it is written, whatever the zone.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from candlecast.domain.frames import INSTANT
from candlecast.errors import BadFrame

FORMATS: Final = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M%:z",
    "%Y%m%d",
    "%Y%m%d %H%M%S",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d-%b-%Y",
    "%b %d, %Y",
)
N_SAMPLED: Final = 500
UNIT_LIMITS: Final = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": 1e20}
"""A count below the limit is of that unit: seconds until the year 5138, and so on."""
EIGHT_DIGIT_DATES: Final = (19000101, 21001231)


def parse_instants(times: pl.Series, *, zone: str, is_daily: bool) -> pl.Series:
    """`times` as instants (UTC, microseconds), null where they cannot be read."""
    if times.dtype == pl.String:
        return _from_text(times, zone=zone, is_daily=is_daily)
    if times.dtype == pl.Date:
        local = times.cast(pl.Datetime("us"))
    elif isinstance(times.dtype, pl.Datetime):
        if times.dtype.time_zone is not None:
            return _stamped(times.cast(pl.Datetime("us", times.dtype.time_zone)), is_daily)
        local = times.cast(pl.Datetime("us"))
    elif times.dtype.is_numeric():
        if times.dtype.is_integer() and times.drop_nulls().is_between(*EIGHT_DIGIT_DATES).all():
            return _from_text(times.cast(pl.String), zone=zone, is_daily=is_daily)
        return _stamped(_from_counts(times), is_daily)
    else:
        raise BadFrame(f"the times are of type {times.dtype}; use dates, numbers or text")
    return _localised(local, zone, is_daily)


def _from_text(times: pl.Series, *, zone: str, is_daily: bool) -> pl.Series:
    tidy = _tidied(times)
    known = tidy.unique().drop_nulls()
    is_count = known.str.contains(r"^\d{9,19}$")
    if len(known) and is_count.sum() * 2 >= len(known):
        return _stamped(_from_counts(tidy.cast(pl.Int64, strict=False)), is_daily)
    form = _likeliest_format(known)
    if form.endswith("%:z") and is_daily:  # the date as written, not the one it was in UTC
        tidy, form = tidy.str.slice(0, 10), "%Y-%m-%d"
    if form.endswith("%:z"):
        return tidy.str.to_datetime(form, time_unit="us", strict=False).cast(INSTANT)
    return _localised(_read(tidy, form), zone, is_daily)


def _tidied(times: pl.Series) -> pl.Series:
    return (
        times.str.strip_chars()
        .str.replace(r"^(\d{4})/(\d{1,2})/(\d{1,2})", "$1-$2-$3")
        .str.replace(r"^([\d-]{8,10})[Tt](\d)", "$1 $2")
        .str.replace(r"(?i)(:\d{2}(?:\.\d+)?)\s*(?:Z|UTC|GMT)$", "$1+00:00")
        .str.replace(r"(:\d{2}(?:\.\d+)?)\s*([+-]\d{2})(?::?(\d{2}))?$", "$1$2:$3")
        .str.replace(r"([+-]\d{2}):$", "$1:00")
    )


def _likeliest_format(known: pl.Series) -> str:
    sample = known.gather_every(max(1, len(known) // N_SAMPLED))
    fits = [form for form in FORMATS if _n_read(sample, form)] or list(FORMATS[:1])
    counts = {form: _n_read(known, form) for form in fits}
    best = max(fits, key=lambda form: counts[form])
    twin = best.replace("%m/%d", "%d/%m")
    is_ambiguous = twin != best and counts.get(twin) == counts[best]
    if is_ambiguous and not _read(known, best).equals(_read(known, twin)):
        raise BadFrame(f"is the day or the month first in {known[0]!r}? Write 2024-01-31")
    return best


def _n_read(times: pl.Series, form: str) -> int:
    return len(times) - _read(times, form).null_count()


def _read(times: pl.Series, form: str) -> pl.Series:
    if "%H" in form:
        read = times.str.to_datetime(form, time_unit="us", strict=False)
        return read.dt.replace_time_zone(None)
    return times.str.to_date(form, strict=False).cast(pl.Datetime("us"))


def _from_counts(counts: pl.Series) -> pl.Series:
    # One unit a column, told by its largest count.
    if counts.dtype.is_float():
        counts = counts.fill_nan(None).round()
    whole = counts.cast(pl.Int64, strict=False)
    largest = float(whole.abs().max() or 0)  # type: ignore[arg-type]
    unit = next((unit for unit, limit in UNIT_LIMITS.items() if largest < limit), "us")
    per_unit = {"s": 10**6, "ms": 10**3}.get(unit, 1)
    micros = whole // 1000 if unit == "ns" else whole * per_unit
    return micros.cast(pl.Datetime("us", "UTC"))


def _localised(local: pl.Series, zone: str, is_daily: bool) -> pl.Series:
    if is_daily:
        return local.dt.truncate("1d").dt.replace_time_zone("UTC")
    placed = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return placed.dt.convert_time_zone("UTC")


def _stamped(placed: pl.Series, is_daily: bool) -> pl.Series:
    if is_daily:
        return placed.dt.replace_time_zone(None).dt.truncate("1d").dt.replace_time_zone("UTC")
    return placed.dt.convert_time_zone("UTC")
