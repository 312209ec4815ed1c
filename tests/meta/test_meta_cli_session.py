"""Engineers at work: the commands as they are typed, against a real meta with its own database, from the first token on."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.agents import HEALTHY
from helpers.meta_server import REPOSITORY, MetaServer, meta, until
from lab.agents import pack


class Own(MetaServer):
    """Its records live in its database."""

    def __init__(self, directory: Path, *options: str):
        super().__init__(directory, directory / "none", *options)
        at = self._command.index("--records")
        del self._command[at : at + 2]
