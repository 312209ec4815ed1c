"""The services for elves' other modules: agentInfo, agentList, updateAppInfo. Independent of RabbitMQ.

Only the services in an explicit table can be called. Times are in the local time zone, as in the Java module.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from meta.bridges.elves.app_table import BadTable, parse_table
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rabbitmq import messages
from meta.bridges.elves.rabbitmq.messages import Body, Dropped, Request
from meta.bridges.elves.rate_limited_log import RateLimitedLog
from meta.bridges.elves.translator import Agent
from updater.wire.text import plain, quoted

NOT_FOUND = "[414.1]Agent Info Not Found"
FAILED = "[500]Internal Error"
UNUSABLE = "[400]"
log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """The answer to a message."""

    to: str = ""  # the queue or routing key; "": no answer is wanted
    by_id: bool = False  # see Request
    data: bytes = b""
    is_done: bool = True  # False: the change is not on the disk, so the message must not be acknowledged yet


class Services:
    """Handles messages. Safe for threads.

    agent_info_list: answer agentInfo as elves' second document says, with a list of one agent or none as its result.
    """

    def __init__(self, online: OnlineAgents, kept: KeptTable, agent_info_list: bool = False):
        self._online = online
        self._kept = kept
        self._agent_info_list = agent_info_list
        self._limited_log = RateLimitedLog()
        self._table: dict[str, Callable[[Body, float], dict[str, Any]]] = {
            "agentInfo": self._agent_info,
            "agentList": self._agent_list,
            "updateAppInfo": self._update_app_info,
        }

    def handle(self, data: bytes, reply_to: str, now: float) -> Reply:
        """Handle one message, and return its answer. Raises Dropped if it is invalid or for an unknown service."""
        request = messages.parse(data, reply_to)
        service = self._table.get(request.service)
        if service is None:
            raise Dropped(f"there is no service {quoted(request.service)}")
        if request.service == "updateAppInfo":
            return self._change(request, service, now)
        if not request.answer_to:
            raise Dropped(f"{request.service} from {plain(request.sender)} does not say where to answer")
        try:
            body = service(request.body, now)
        except Dropped as e:
            body = _failed(request.service, f"{UNUSABLE}{e}")
        except Exception:  # noqa: BLE001 (logged with its trace)
            self._limited_log.say(log, "%s failed", request.service, trace=True)
            body = _failed(request.service, FAILED)
        if request.service == "agentInfo" and self._agent_info_list:
            body["result"] = [body["result"]] if body["result"] else []
        return Reply(request.answer_to, request.by_id, messages.render_answer(request.sender, body))

    def _change(self, request: Request, service: Callable[[Body, float], dict[str, Any]], now: float) -> Reply:
        body = service(request.body, now)
        answer = messages.render_answer(request.sender, body) if request.answer_to else b""
        return Reply(request.answer_to, request.by_id, answer, self._kept.is_saved)

    def _agent_info(self, body: Body, now: float) -> dict[str, Any]:
        ip, asset = messages.text(body, "ip"), messages.text(body, "asset", "id")
        found = self._online.find(ip, asset, now) if ip or asset else []
        if not found:
            return {"flag": "false", "error": NOT_FOUND, "result": {}}
        latest = max(found, key=lambda agent: agent.last_beat)  # the ip of an asset may have changed
        return {"flag": "true", "error": "", "result": describe(latest)}

    def _agent_list(self, body: Body, now: float) -> dict[str, Any]:
        found = self._online.find(messages.text(body, "ip"), messages.text(body, "asset", "id"), now)
        size, number = messages.whole_number(body, "pagesize"), messages.whole_number(body, "pagenumber")
        start = (max(number, 1) - 1) * size if size > 0 else 0
        page = found[start : start + size] if size > 0 else found
        return {"count": len(found), "result": [describe(agent) for agent in page]}

    def _update_app_info(self, body: Body, _now: float) -> dict[str, Any]:
        if "result" not in body:
            raise Dropped("updateAppInfo without a result; the last table stays")
        try:
            table = parse_table(body["result"])
        except BadTable as e:
            raise Dropped(f"updateAppInfo with {e}; the last table stays") from e
        self._kept.put(table, "updateAppInfo")
        return {"flag": "true", "error": "", "result": {}}


def _failed(service: str, error: str) -> dict[str, Any]:
    """Return a failure in the form of this service's answers."""
    nothing: dict[str, Any] = {"count": 0, "result": []} if service == "agentList" else {"result": {}}
    return {"flag": "false", "error": error} | nothing


def describe(agent: Agent) -> dict[str, Any]:
    """Return an agent in the form of agentInfo and agentList."""
    heard = datetime.fromtimestamp(agent.last_beat).strftime("%Y-%m-%d %H:%M:%S")
    return {"ip": agent.ip, "asset": agent.asset, "last_hb_time": heard, "apps": dict(agent.apps)}
