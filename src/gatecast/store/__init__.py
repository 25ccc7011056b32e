"""On disk: runs, saved whole or not at all, and stores, which live for years; read only where every part is whole."""

from gatecast.store.checking import Fault
from gatecast.store.folders import check_place, discard, locked, previous, studies, unfinished
from gatecast.store.pruning import Pruning
from gatecast.store.reading import chain_of, load_models, load_run, load_scale, past_of
from gatecast.store.store import Store
from gatecast.store.writing import replacement, run_parts, save_run, write_page

__all__ = [
    "Fault", "Pruning", "Store", "chain_of", "check_place", "discard", "load_models", "load_run", "load_scale",
    "locked", "past_of", "previous", "replacement", "run_parts", "save_run", "studies", "unfinished", "write_page",
]  # fmt: skip
