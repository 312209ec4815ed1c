"""elves-agents served by `meta serve` itself, by a line of its configuration."""

import pytest

from helpers.elves import agent, beat
from lab.fleet import Late, Meta, get, until
from lab.ports import free_port


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def meta(tmp_path, port):
    with Meta(tmp_path / "meta") as made:
        conf = f"thrift.heartbeat.port={port}\nmq.ip=127.0.0.1\nmq.port=9\n"  # nobody listens at 9
        (made.directory / "conf.properties").write_text(conf)
        (made.directory / "meta.yaml").write_text("elves: conf.properties\n")
        yield made


def test_an_elves_agent_is_a_host_of_meta_and_its_records_decide(meta, port):
    meta.start("--config", "meta.yaml")
    meta.run("set", "testApp", "version=1.0.2", "tarball=http://127.0.0.1/t", "--yes")
    assert '"testApp": "1.0.2"' in beat(port).replace('":"', '": "')
    assert "CX0001" in meta.run("hosts").stdout
    assert "meta_elves_beats_total 1.0" in get(f"{meta.url}/metrics").text
    until("meta says that RabbitMQ is away", lambda: "RabbitMQ is away" in get(f"{meta.url}/ready").text)
    assert meta.stop() == 0


def test_a_conf_that_cannot_be_meant_keeps_meta_from_starting(meta):
    (meta.directory / "conf.properties").write_text("thrift.heartbeat.port=none\n")
    with pytest.raises(Late, match=r"thrift\.heartbeat\.port"):
        meta.start("--config", "meta.yaml")


def test_an_agent_of_many_apps_is_shown_with_them(meta, port):
    meta.start("--config", "meta.yaml")
    meta.run("set", "testApp", "version=1.0.2", "tarball=http://127.0.0.1/t", "--yes")
    beat(port, agent(7))
    assert "testApp" in meta.run("host", "CX00007").stdout


def test_warnings_of_the_file_are_logged_and_a_broker_that_is_away_takes_one_line(meta, port):
    with (meta.directory / "conf.properties").open("a") as file:
        file.write("mq.exchnge = elves\n")
    meta.start("--config", "meta.yaml")
    until("RabbitMQ is away", lambda: "RabbitMQ at 127.0.0.1:9 is away" in meta.log.read_text())
    assert meta.stop() == 0
    log = meta.log.read_text()
    assert "mq.exchnge is not a known key and has no effect; did you mean mq.exchange?" in log
    assert [line for line in log.splitlines() if "pika" in line.lower()] == []
    assert log.count("is away, trying again") == 1
