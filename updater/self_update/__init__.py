"""The updater as an agent of itself: installing its package, and handing over to its successor."""
