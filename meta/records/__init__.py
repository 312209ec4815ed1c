"""Desired state: records, selectors, their history, and what speaks against a change."""
