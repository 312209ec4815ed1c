"""The REST operation that retries a version that hosts have rolled back or refused."""

import msgspec
from msgspec import UNSET

from meta.access.roles import Rule
from meta.api.framework.operation import Call, Reply, operation
from meta.api.resources.records import edit_record
from meta.api.schemas.basics import AgentName
from meta.api.schemas.documents import RetryBody
from meta.api.schemas.queries import EditQuery
from meta.api.schemas.types import EditView
from meta.edits import attempts
from meta.records.files import load
from meta.records.model import RecordSet


@operation(
    "POST",
    "/records/{agent}/retry",
    Rule.EDITOR,
    "Have hosts try the version of this agent again that they rolled back or refused",
    parts={"agent": AgentName},
    query=EditQuery,
    body=RetryBody,
    answers={200: EditView},
    refusals=(404, 409, 412, 428),
    conditional=["If-Match"],
)
def retry(call: Call) -> Reply:
    """Order a retry. The notes of the answer say how many hosts will try again, and how many cannot. Without any, nothing is
    changed."""
    agent = call.path["agent"]
    wanted = [] if call.body.selectors is UNSET else msgspec.to_builtins(call.body.selectors)
    selectors = [load.parse_selector(one, f"selectors[{index}]") for index, one in enumerate(wanted)]
    table, said = call.service.table, attempts.Outlook()

    def change(before: RecordSet) -> RecordSet:
        nonlocal said
        attempts.require_hosts(table, before, selectors)
        after = attempts.retry(before, agent, selectors)
        said = attempts.outlook(table, after, agent)
        return after if said.acts else before

    return edit_record(call, "retry", change, there_is_one=True, note=lambda _after: said.in_words())
