"""What the documents show, to be run by tests."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def release_script() -> str:
    """The README's script for a release with a canary."""
    [script] = [one for one in FENCED.findall((ROOT / "README.md").read_text()) if one.startswith("set -e\nbefore=")]
    return script
