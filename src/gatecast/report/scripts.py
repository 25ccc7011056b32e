"""What runs in a page: Plotly's bundle for finance, which comes with gatecast, and the page's own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import lru_cache
from importlib.resources import files
from typing import Any

PLOTLY, PLOTLY_LICENSE = "plotly-finance.min.js", "plotly-finance.LICENSE"
PLOTLY_VERSION = "4.1.0"
PLOTLY_SHA256 = "9993f6d57ffd52d7417a9e89b666679ff69078e7c2816b43ab9ecdea9fa4709d"
"""The bundle of bars, lines and candles, a quarter of the whole library: as published, MIT licence beside it."""

MAP_STYLE = "ce8d464691048653ffe3a57c6c18ab566e8366f186677868cf724621a857b4fe"
"""Id of the styles of maps, which the bundle adds where no element has it. No page has maps: its script bears it."""


@lru_cache(maxsize=16)
def source(name: str, package: str = "gatecast.report") -> str:
    """A file among the templates of a package as text, such as `report.js`."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def plotly_script() -> str:
    """The JavaScript that draws figures."""
    return source(PLOTLY)


def own_script() -> str:
    """The page's own JavaScript: its tables, then its figures."""
    return f"{source('tables.js')}\n{source('report.js')}"


def allowed(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows exactly this script or style sheet.

    That of nothing allows the empty style sheet that Plotly adds, and fills rule by rule.

    >>> allowed("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def packed(data: Any) -> str:
    """Data as JSON, compressed (zlib), in base64: what `report.js` unpacks.

    >>> json.loads(zlib.decompress(base64.b64decode(packed({"close": [1.5, None]}))))
    {'close': [1.5, None]}
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
