"""The state that all requests of one application share; the only entry of meta in Flask's `extensions`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, current_app

from meta.access.clients import RateLimits
from meta.artifacts.transfer import Places

if TYPE_CHECKING:
    from meta.service import Service

_NAME = "meta"


@dataclass(frozen=True)
class MetaState:
    """What requests share. All of it is safe for threads."""

    service: "Service"
    limits: RateLimits  # how many requests each client may send
    places: Places  # how many uploads, downloads and large bodies are served at once


def keep(app: Flask, state: MetaState) -> None:
    """Give this application its state."""
    app.extensions[_NAME] = state


def state() -> MetaState:
    """Return the state of the application that handles the current request."""
    found: MetaState = current_app.extensions[_NAME]
    return found
