"""A model under other versions of the libraries than it was fitted with: it must forecast what it forecast then.

The numbers that are compared are in every store: what the refit issued at its newest closes, and the bars that it read.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from gatecast.errors import BarsError, GatecastError, cut
from gatecast.forecasting.checks import predictions_of
from gatecast.provenance import other_versions
from gatecast.store.pieces import read_pieces
from gatecast.store.state import ISSUED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gatecast.live.kept import Served
    from gatecast.samples.windows import Samples
    from gatecast.store.issued import Piece
    from gatecast.store.store import Store

    FloatArray = NDArray[np.float64]

TOLERANCE = 1e-3
"""Part of a forecast's size by which it may be another under other versions: more than rounding, less than matters."""


def misfit_of(store: Store, served: Served) -> str:
    """Why a model may not forecast under the versions that are installed here; "" where it may.

    With the versions of its refit nothing is computed. Else its fits are asked again at the newest closes of their
    refit, from the bars as they were known then, and must say what was issued, to one part in a thousand.
    """
    other = other_versions(served.run.provenance)
    model = store.state.model(served.number)
    if not other or model is None or ISSUED not in model.parts:
        return ""
    experiment = served.run.experiment
    bars = store.bars.for_chain(datetime.fromisoformat(model.now), record=model.record)
    found = ""
    try:
        for name, piece in read_pieces(store.artefacts, model.parts[ISSUED], experiment.horizon).items():
            sampling = replace(experiment.sampling, features=served.past.features.get(name))
            own = bars.filter(asset_class=name)
            found = found or _other_forecast(sampling.make(own)[name], piece, served.past.forecasts[name].fitted)
    except (BarsError, KeyError) as error:
        found = f"the bars of its refit cannot be used: {error}"
    if not found:
        return ""
    said = ", ".join(f"{library} {then} (here {now})" for library, (then, now) in other.items())
    return (
        f"model {served.number} was fitted with {cut(said, 500)}, and does not forecast what it forecast then: {found}."
        " Install those versions; else `gatecast retrain` fits another model when a refit is due."
    )


def _other_forecast(samples: Samples, piece: Piece, fits: Mapping[str, object]) -> str:
    """The first forecast of a refit's newest closes that is another now, in words; "" where there is none."""
    theirs, mine = piece.issued.rows_in(samples)
    newest = piece.issued.time[theirs] >= piece.issued.cutoffs[-1]
    theirs, mine = theirs[newest], mine[newest]
    for model, heads in piece.issued.values.items():
        if model not in fits or not len(mine):
            continue
        try:
            answers = predictions_of(model, None, fits[model], samples, mine)[0]  # type: ignore[arg-type]
        except GatecastError as error:
            return str(error).rstrip(".")
        for head, every in heads.items():
            then = every[theirs].reshape(len(mine), -1)[:, -1]
            now = answers[head].reshape(len(mine), -1)[:, -1] if head in answers else np.full(len(mine), np.nan)
            size = float(np.sqrt(np.nanmean(every**2))) if np.isfinite(every).any() else 0.0
            same = np.isclose(now, then, rtol=TOLERANCE, atol=TOLERANCE * size) | np.isnan(then)
            if not same.all():
                row = int(np.flatnonzero(~same)[0])
                symbol, close = piece.issued.symbol[theirs[row]], piece.issued.time[theirs[row]]
                when = np.datetime_as_string(close, "m").replace("T", " ")
                return f"{model}, {head} of {symbol!r} at {when} UTC was {then[row]:.6g} and is {now[row]:.6g}"
    return ""
