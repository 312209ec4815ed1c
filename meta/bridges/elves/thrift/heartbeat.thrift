// What elves-agents say to elves' heartbeat module, over the strict binary protocol without frames.

struct AgentInfo {
  1: string id       // the asset
  2: string ip
  3: string version  // of the agent itself
  4: string apps     // JSON: the version of each app
}

service HeartbeatService {
  string heartbeatPackage(1: AgentInfo info)  // JSON: the version of each app that the agent is to have
}
