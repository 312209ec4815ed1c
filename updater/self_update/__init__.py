"""The updater as an agent of itself: the installation of its package, and the handover to its successor."""
