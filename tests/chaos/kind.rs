//! The kinds of faults.

use std::fmt;

/// What systemg keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Redis,
    Orchestrator,
}

/// What breaks. Pauses are shorter than a lease lives, hangs are longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    AgentKill,
    AgentTerm,
    AgentPause,
    AgentHang,
    AgentsKill,
    AgentsHang,
    OrchestratorKill,
    OrchestratorTerm,
    OrchestratorPause,
    OrchestratorHang,
    RedisKill,
    RedisTerm,
    RedisPause,
    RedisHang,
    /// Killed, and started with data from some seconds ago.
    RedisOlder,
    /// Killed, and started without data.
    RedisEmpty,
    SysgKill,
    AllKill,
    NetSlow,
    NetCut,
    NetRefused,
    NetSilent,
    NetSilentLong,
    NetRepliesLost,
    NetCutOnReply,
}

impl Kind {
    /// One of each.
    pub(crate) const ALL: &[Self] = &[
        Self::AgentKill,
        Self::AgentTerm,
        Self::AgentPause,
        Self::AgentHang,
        Self::AgentsKill,
        Self::AgentsHang,
        Self::OrchestratorKill,
        Self::OrchestratorTerm,
        Self::OrchestratorPause,
        Self::OrchestratorHang,
        Self::RedisKill,
        Self::RedisTerm,
        Self::RedisPause,
        Self::RedisHang,
        Self::RedisOlder,
        Self::RedisEmpty,
        Self::SysgKill,
        Self::AllKill,
        Self::NetSlow,
        Self::NetCut,
        Self::NetRefused,
        Self::NetSilent,
        Self::NetSilentLong,
        Self::NetRepliesLost,
        Self::NetCutOnReply,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AgentKill => "agent-kill",
            Self::AgentTerm => "agent-term",
            Self::AgentPause => "agent-pause",
            Self::AgentHang => "agent-hang",
            Self::AgentsKill => "agents-kill",
            Self::AgentsHang => "agents-hang",
            Self::OrchestratorKill => "orchestrator-kill",
            Self::OrchestratorTerm => "orchestrator-term",
            Self::OrchestratorPause => "orchestrator-pause",
            Self::OrchestratorHang => "orchestrator-hang",
            Self::RedisKill => "redis-kill",
            Self::RedisTerm => "redis-term",
            Self::RedisPause => "redis-pause",
            Self::RedisHang => "redis-hang",
            Self::RedisOlder => "redis-older",
            Self::RedisEmpty => "redis-empty",
            Self::SysgKill => "sysg-kill",
            Self::AllKill => "all-kill",
            Self::NetSlow => "net-slow",
            Self::NetCut => "net-cut",
            Self::NetRefused => "net-refused",
            Self::NetSilent => "net-silent",
            Self::NetSilentLong => "net-silent-long",
            Self::NetRepliesLost => "net-replies-lost",
            Self::NetCutOnReply => "net-cut-on-reply",
        }
    }

    /// How often it is in the deck. Work starts anew where Redis' data is gone: that
    /// happens once, and not by the deck.
    pub(crate) const fn weight(self) -> usize {
        if matches!(self, Self::RedisEmpty) {
            return 0;
        }
        if matches!(self, Self::AgentKill) {
            return 4;
        }
        if matches!(self, Self::AgentsKill | Self::OrchestratorKill | Self::RedisKill) {
            2
        } else {
            1
        }
    }

    /// Which services it ends, so that systemg starts them again with its own backoff.
    pub(crate) const fn ends(self) -> &'static [Service] {
        if matches!(self, Self::OrchestratorKill | Self::OrchestratorTerm) {
            return &[Service::Orchestrator];
        }
        if matches!(self, Self::RedisKill | Self::RedisTerm) { &[Service::Redis] } else { &[] }
    }

    /// Whether it may happen together with another one: each is over by itself then.
    pub(crate) const fn may_pair(self) -> bool {
        !matches!(self, Self::SysgKill | Self::AllKill | Self::RedisOlder | Self::RedisEmpty)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
