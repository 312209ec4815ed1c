"""A client that does what coraldane's updater does with meta's replies, each agent a directory with one file `run`.

It stops an agent and removes its directory where runUser or workDir differ from those it had last, also where they are blank.
It touches nothing that a reply leaves out. It fetches {tarball}/linux_amd64/NAME-VERSION.tar.gz, for runUser below workDir.
"""

import json
import shutil
from pathlib import Path

import requests

PLATFORM = "linux_amd64"


class CoraldaneUpdater:
    """fetched: the URLs it asked for; stopped: agents that it stopped and removed, in order."""

    def __init__(self, url: str, hostname: str, root: Path):
        self.url, self.hostname, self.root = url, hostname, root
        self.fetched: list[str] = []
        self.stopped: list[str] = []
        self.running: dict[str, tuple[str, str, str]] = {}  # name -> version, runUser, workDir

    def cycle(self) -> None:
        """One heartbeat, and what it says."""
        agents = [
            {
                "name": name,
                "version": version,
                "status": "started",
                "timestamp": 1,
                "runUser": user,
                "workDir": directory,
            }
            for name, (version, user, directory) in self.running.items()
        ]
        report = {
            "hostname": self.hostname,
            "ip": "127.0.0.1",
            "runUser": "root",
            "updaterVersion": "1.0",
            "realAgents": agents,
        }
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{self.url}/api/heartbeat", data=json.dumps(report).encode(), timeout=20)
        assert answer.status_code == 200, answer.text
        for desired in answer.json()["desiredAgents"] or ():
            self._heed(desired)

    def _heed(self, desired: dict[str, str]) -> None:
        name, former = desired["name"], self.running.get(desired["name"])
        wanted = (desired["version"], desired["runUser"], desired["workDir"])
        if former and former[1:] != wanted[1:]:
            self._remove(name)
            former = None
        if desired["cmd"] == "start" and former != wanted and all(wanted):
            self._install(name, wanted, desired["tarball"])

    def _remove(self, name: str) -> None:
        _, _, directory = self.running.pop(name)
        shutil.rmtree(self._at(directory, name))
        self.stopped.append(name)

    def _install(self, name: str, wanted: tuple[str, str, str], tarball: str) -> None:
        version, _, directory = wanted
        url = f"{tarball}/{PLATFORM}/{name}-{version}.tar.gz"
        self.fetched.append(url)
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=20)
        if answer.status_code != 200:
            return
        at = self._at(directory, name)
        at.mkdir(parents=True, exist_ok=True)
        (at / "run").write_bytes(answer.content)
        self.running[name] = wanted

    def _at(self, directory: str, name: str) -> Path:
        return self.root / directory.strip("/") / name
