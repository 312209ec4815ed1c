"""Records with tens of thousands of hosts: what a records file may hold, every command and every way takes."""

import subprocess
import sys

import pytest

from helpers.meta_people import Person
from helpers.meta_server import MetaServer, meta

pytestmark = pytest.mark.long

NAMES = [f"web-{number:05}.somewhere.example" for number in range(50_000)]
HOSTS = "[" + ", ".join(NAMES) + "]"
LARGE = f"agents:\n- {{name: a, version: '1', tarball: 'http://r.example', overrides: [{{hosts: {HOSTS}, version: '2'}}]}}\n"


def test_what_a_records_file_may_hold_is_checked_applied_compared_and_exported(boss, tmp_path):
    file, copy = tmp_path / "records.yaml", tmp_path / "copy.yaml"
    file.write_text(LARGE)
    assert len(LARGE) > 1.3 * 2**20
    assert boss("check", str(file)) == f"{file}: 1 agent, no errors\n"
    boss("apply", str(file), "--yes")
    for name, version in ((NAMES[0], "2"), (NAMES[-1], "2"), ("other", "1")):
        assert boss.server.beat(name)["desiredAgents"][0]["version"] == version
    assert boss("diff", str(file)) == "no difference\n"
    boss("export", "-o", str(copy))
    copy.write_text(copy.read_text().replace(NAMES[-1], "another.example"))
    assert "another.example" in boss("diff", str(copy))
    boss("apply", str(copy), "--yes")
    boss("set", "a", "version=3", "--yes")
    assert boss.server.beat("another.example")["desiredAgents"][0]["version"] == "2"


def test_a_meta_of_such_a_file_is_reloaded_and_compares_it(tmp_path, boss):
    file = tmp_path / "records.yaml"
    file.write_text(LARGE)
    with MetaServer(tmp_path, file) as server:
        file.write_text(LARGE.replace("'2'", "'3'"))
        done = meta("reload", "--url", server.url, directory=tmp_path)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reloaded: 1 agent")
        assert server.beat(NAMES[0])["desiredAgents"][0]["version"] == "3"


SHORT = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b'{"name": "ann", "role": "viewer"}', "application/json")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(413, b"<html>too large</html>", "text/html")
    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Proxy)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_a_check_that_cannot_be_compared_as_a_proxy_takes_less_says_so_and_checks_the_file(boss, tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(LARGE)
    nobody = Person(boss.server, tmp_path / "home", "ou_o_shown")
    with subprocess.Popen([sys.executable, "-c", SHORT], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            port = proxy.stdout.readline().strip()
            done = nobody.run("check", str(file), "--url", f"http://127.0.0.1:{port}")
        finally:
            proxy.kill()
    assert (done.returncode, done.stdout) == (0, f"{file}: 1 agent, no errors\n")
    assert (
        "note: not compared with the records in force: the proxy before meta refuses a body of this size" in done.stderr
    )
