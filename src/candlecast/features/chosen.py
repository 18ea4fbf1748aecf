"""Which features of the user's own a model is trained on and served with: the same code in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from candlecast.domain.catalog import FEATURES, FeatureTable
from candlecast.domain.specs import FeatureSpec
from candlecast.errors import Conflict, NotFound
from candlecast.features.compute import own_inputs, standard_set
from candlecast.features.user_files import code_of


def with_code(spec: FeatureSpec) -> FeatureSpec:
    """`spec` with the hash of the user's files that define any of its features.

    Without names it is the standard set and, where the user has loaded features that models may
    see, these beside it, all of them named. InvalidSpec for a feature that no file keeps.
    """
    names = spec.names
    if not names and (own := own_inputs()):
        names = (*standard_set(), *own)
    return replace(spec, names=names, code=code_of(names))


def check_code(spec: FeatureSpec) -> None:
    """An error unless the features of `spec` are known and their code is what it was.

    NotFound for a feature of a file that is not loaded, Conflict for one whose code has changed.
    """
    unknown = [name for name in spec.names if name not in FEATURES]
    if unknown:
        raise NotFound(
            f"the model was trained on features that are not known here: {', '.join(unknown)}; "
            "name the file that defines them with --feature-file or CANDLECAST_FEATURE_FILES"
        )
    if code_of(spec.names) != spec.code:
        own = [name for name in spec.names if FEATURES.get(name).origin]
        raise Conflict(
            f"the code of {', '.join(own) or 'its own features'} is not what the model was trained "
            "on; name the file as it was then with --feature-file, or train again"
        )


def by_table(names: Sequence[str]) -> dict[FeatureTable, tuple[str, ...]]:
    """The features `names` by the table that holds them, in their order."""
    tables: dict[FeatureTable, tuple[str, ...]] = {}
    for name in names:
        table = FEATURES.get(name).table
        tables[table] = (*tables.get(table, ()), name)
    return tables
