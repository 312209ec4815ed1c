"""What all requests of one application share; the only thing that is kept in its `extensions`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, current_app

from meta.access.clients import Limits
from meta.artifacts.transfer import Places

if TYPE_CHECKING:
    from meta.service import Service

_NAME = "meta"


@dataclass(frozen=True)
class MetaState:
    """All of it is safe for threads."""

    service: "Service"
    limits: Limits  # how often each client may ask
    places: Places  # how many may send or fetch something large at once


def keep(app: Flask, state: MetaState) -> None:
    """Give this application its state."""
    app.extensions[_NAME] = state


def state() -> MetaState:
    """That of the application that answers now."""
    found: MetaState = current_app.extensions[_NAME]
    return found
