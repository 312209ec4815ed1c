"""Against a real RabbitMQ, as a user with permissions of all kinds: what is refused costs that step only."""

import json
import time

import pytest
from test_elves_rabbitmq import TABLE, Supervisor, serving, starting

from helpers.proxy import proxied
from helpers.rabbitmq import PORT, Guest, Module, connect, names
from lab.fleet import until
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.rabbitmq.connection import Connection
from meta.bridges.elves.settings import Settings

EXCHANGE, QUEUE = "elves", "heartbeat"
pytestmark = pytest.mark.timed
SOON = 1.0  # seconds


@pytest.fixture(scope="module")
def guest():
    with Guest() as guest:
        yield guest


@pytest.fixture
def kept(tmp_path):
    return KeptTable(tmp_path / "table.json")


def settings(guest: Guest, **more) -> Settings:
    return Settings(mq_vhost=guest.vhost, mq_user=guest.user, mq_password="secret", **more)


def prepare(guest: Guest) -> None:
    """Made by a user with all permissions."""
    connection = connect(vhost=guest.vhost)
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, EXCHANGE, "*.heartbeat")
    connection.close()


def ask(module: Module, call_id: str, **properties) -> None:
    message = {
        "mqkey": "t.heartbeat.agentInfo",
        "mqtype": f"call.{call_id}" if call_id else "call",
        "mqbody": {"ip": "10.0.0.1"},
    }
    module.send(json.dumps(message).encode(), **properties)


def test_a_user_who_may_not_write_to_the_default_exchange_answers_by_the_configured_one(guest, kept):
    guest.may(write="^(elves|heartbeat)$")
    with (
        serving(EXCHANGE, QUEUE, kept, settings=settings(guest)) as broker,
        Module(EXCHANGE, vhost=guest.vhost) as module,
    ):
        queue = module.channel.queue_declare("", exclusive=True).method.queue
        for key in ("CCCEF718FCC41307", "waiting", "again"):
            module.channel.queue_bind(queue, EXCHANGE, key)
        for call_id, properties, key in (
            ("CCCEF718FCC41307", {}, "CCCEF718FCC41307"),
            ("", {"reply_to": "waiting"}, "waiting"),
            ("again", {}, "again"),
        ):
            began = time.monotonic()
            ask(module, call_id, **properties)
            _, answer = module.take(queue)
            assert json.loads(answer)["mqbody"]["flag"] == "true", key
            assert time.monotonic() - began < SOON
        ask(module, "nobody")
        until("it is counted", lambda: broker._numbers.get("answers_nobody_takes") == 1)
        assert (broker._numbers.get("messages"), broker.is_connected) == (4, True), "each came once"


def test_a_user_who_may_not_write_at_all_still_takes_tables_and_names_the_reason(guest, kept, caplog):
    prepare(guest)
    guest.may(configure="^$", write="^$", read="^heartbeat$")
    with serving(EXCHANGE, QUEUE, kept, settings=settings(guest)), Module(EXCHANGE, vhost=guest.vhost) as module:
        for _ in range(5):
            ask(module, "", reply_to="amq.gen-nobody")
        module.cast("updateAppInfo", {"result": TABLE})
        until("the table behind them is taken", lambda: kept.table)
    log = caplog.text
    assert "ACCESS_REFUSED" in log and "may not bind the queue" in log


def test_a_user_who_may_not_declare_serves_what_is_there(guest, kept):
    prepare(guest)
    guest.may(configure="^$")
    with (
        serving(EXCHANGE, QUEUE, kept, every=60, settings=settings(guest)),
        Module(EXCHANGE, vhost=guest.vhost) as module,
    ):
        assert module.call("agentInfo", {"ip": "10.0.0.1"})["mqbody"]["flag"] == "true"


class Counting:
    """Opens connections and counts them."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self, settings: Settings) -> Connection:
        self.opened += 1
        return Connection(settings)


@pytest.mark.parametrize(("changed", "reason"), [({}, "access to queue"), ({"mq_password": "no"}, "ACCESS_REFUSED")])
def test_what_keeps_us_from_the_queue_is_named_once(guest, kept, caplog, changed, reason):
    prepare(guest)
    guest.may(read="^$")
    counting = Counting()
    wanted = settings(guest)._replace(**changed)
    with starting(EXCHANGE, QUEUE, kept, settings=wanted, connect=counting) as broker:
        until("it is tried again and again", lambda: reason in broker.trouble and counting.opened > 4)
        assert not broker.is_connected
    assert [reason in line for line in caplog.text.splitlines() if "is away" in line] == [True]


def test_a_supervisor_is_asked_by_a_user_who_may_write_to_the_exchange_only(guest, kept):
    prepare(guest)
    guest.may(write="^(elves|heartbeat)$")
    with Module(EXCHANGE, vhost=guest.vhost) as module:
        supervisor = Supervisor(module, EXCHANGE)
        with serving(EXCHANGE, QUEUE, kept, every=60, settings=settings(guest)):
            supervisor.answer({"flag": "true", "error": "", "result": TABLE})
            until("its table is in force", lambda: kept.table and kept.table.apps_for("10.0.0.1") == {"a": "1.0.0"})


def test_an_answer_that_the_broker_does_not_confirm_is_given_up(kept):
    """The consumer's connection goes on: only that of the answers is cut."""
    with (
        names() as (exchange, queue),
        proxied(PORT) as proxy,
        serving(exchange, queue, kept, settings=Settings(mq_port=proxy.port)) as broker,
        Module(exchange) as module,
    ):
        proxy.hold(1)
        ask(module, "", reply_to="x")
        until("the answer is on its way", lambda: b"heartbeat.t" in proxy.sent)
        began = time.monotonic()
        assert module.call("agentInfo", {"ip": "10.0.0.1"}, within=8), "the next one is answered"
        assert time.monotonic() - began < 7
        assert broker._numbers.get("answers_nobody_takes") == 1
        assert broker.is_connected
