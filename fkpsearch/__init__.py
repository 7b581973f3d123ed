"""Searches for the best facial-keypoint model your hardware can find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fkpsearch.api import best, export, load_faces, load_space, load_study, search

__version__ = "0.1.0"

__all__ = ["__version__", "best", "export", "load_faces", "load_space", "load_study", "search"]


def __getattr__(name: str) -> Any:
    """The functions of `api`, loaded when one is asked for: the command line starts without them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fkpsearch import api

    return getattr(api, name)
