"""Limits of what agents, modules and the broker send to the bridge. TABLE lists them for docs/elves.md. Pure."""

from updater.wire.limits import Limit

MAX_MESSAGE = 64 << 10  # bytes; an agent with a thousand apps sends 40,000
MAX_VALUES = 2000  # fields and elements in one message
MAX_DEPTH = 16
MAX_METHOD = 256  # bytes of a method's name
MAX_APPS = 1000  # of one agent
MAX_TEXT = 256  # characters of an app's name, a version or an asset, of an agent and in an app table
MAX_IP = 64  # characters
MAX_ONLINE = 200_000  # agents; limits the memory, no fleet is so large
MAX_CONNECTIONS = 10_000
MAX_HELD = 64 << 20  # bytes of incomplete messages, of all connections
MAX_BODY = 8 << 20  # bytes; enough for an app table of a hundred apps on five thousand agents
MAX_KEY = 255  # bytes of a routing key, by AMQP
MAX_QUEUE = 127  # bytes of the name of a queue or an exchange
MAX_ENTRIES = 10_000  # of an app table

TABLE = (
    Limit("a message of an agent", f"{MAX_MESSAGE:,} bytes, in 10 s", MAX_MESSAGE),
    Limit("fields and elements in it", f"{MAX_VALUES:,}", MAX_VALUES),
    Limit("how deep it is nested", f"{MAX_DEPTH}", MAX_DEPTH),
    Limit("the name of its method", f"{MAX_METHOD} bytes", MAX_METHOD),
    Limit("apps of an agent", f"{MAX_APPS:,}", MAX_APPS),
    Limit("an app, a version", f"{MAX_TEXT} characters", MAX_TEXT),
    Limit("an asset, the agent's own version", f"{MAX_TEXT} characters; the rest is cut", MAX_TEXT),
    Limit("`ip`", f"{MAX_IP} characters", MAX_IP),
    Limit("agents online", f"{MAX_ONLINE:,}", MAX_ONLINE),
    Limit("connections of agents at once", f"{MAX_CONNECTIONS:,}", MAX_CONNECTIONS),
    Limit("incomplete messages, together", f"{MAX_HELD:,} bytes", MAX_HELD),
    Limit("a message of a module", f"{MAX_BODY:,} bytes", MAX_BODY),
    Limit("the ID of a call", f"{MAX_KEY} bytes", MAX_KEY),
    Limit("`mq.queue`, `mq.exchange`", f"{MAX_QUEUE} bytes", MAX_QUEUE),
    Limit("entries of an app table", f"{MAX_ENTRIES:,}", MAX_ENTRIES),
)
