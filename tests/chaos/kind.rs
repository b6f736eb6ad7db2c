//! The kinds of faults.

use std::fmt;

/// What systemg keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Redis,
    Orchestrator,
}

/// What becomes of a control file for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// Its first part is there, cut within a line.
    Half,
    Gone,
    /// A pipe that nobody writes to.
    Pipe,
    /// A link to a file outside of the project, which says something else.
    Link,
    /// A gibibyte of nothing.
    Huge,
}

/// What a person writes into a heartbeat file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    /// And `RESUME` after a while.
    Pause,
    Drop,
    Elevate,
    Flush,
    Reparse,
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
    Instructions(Broken),
    Heartbeat(Broken),
    /// An agent is no longer declared, and once it is gone it is again.
    AgentUndeclared,
    Directive(Word),
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
        Self::Instructions(Broken::Half),
        Self::Instructions(Broken::Gone),
        Self::Instructions(Broken::Pipe),
        Self::Instructions(Broken::Link),
        Self::Instructions(Broken::Huge),
        Self::Heartbeat(Broken::Half),
        Self::Heartbeat(Broken::Gone),
        Self::Heartbeat(Broken::Pipe),
        Self::Heartbeat(Broken::Link),
        Self::Heartbeat(Broken::Huge),
        Self::AgentUndeclared,
        Self::Directive(Word::Pause),
        Self::Directive(Word::Drop),
        Self::Directive(Word::Elevate),
        Self::Directive(Word::Flush),
        Self::Directive(Word::Reparse),
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
            Self::Instructions(Broken::Half) => "instructions-half",
            Self::Instructions(Broken::Gone) => "instructions-gone",
            Self::Instructions(Broken::Pipe) => "instructions-pipe",
            Self::Instructions(Broken::Link) => "instructions-link",
            Self::Instructions(Broken::Huge) => "instructions-huge",
            Self::Heartbeat(Broken::Half) => "heartbeat-half",
            Self::Heartbeat(Broken::Gone) => "heartbeat-gone",
            Self::Heartbeat(Broken::Pipe) => "heartbeat-pipe",
            Self::Heartbeat(Broken::Link) => "heartbeat-link",
            Self::Heartbeat(Broken::Huge) => "heartbeat-huge",
            Self::AgentUndeclared => "agent-undeclared",
            Self::Directive(Word::Pause) => "directive-pause",
            Self::Directive(Word::Drop) => "directive-drop-task",
            Self::Directive(Word::Elevate) => "directive-elevate",
            Self::Directive(Word::Flush) => "directive-flush-memory",
            Self::Directive(Word::Reparse) => "directive-reparse",
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

    /// Which agents it hits: one, some of them, or none of its own choice.
    pub(crate) const fn hits(self) -> Hits {
        match self {
            Self::AgentKill
            | Self::AgentTerm
            | Self::AgentPause
            | Self::AgentHang
            | Self::RedisOlder
            | Self::AgentUndeclared
            | Self::Heartbeat(_)
            | Self::Directive(_) => Hits::One,
            Self::AgentsKill | Self::AgentsHang => Hits::Some,
            Self::OrchestratorKill
            | Self::OrchestratorTerm
            | Self::OrchestratorPause
            | Self::OrchestratorHang
            | Self::RedisKill
            | Self::RedisTerm
            | Self::RedisPause
            | Self::RedisHang
            | Self::RedisEmpty
            | Self::SysgKill
            | Self::AllKill
            | Self::NetSlow
            | Self::NetCut
            | Self::NetRefused
            | Self::NetSilent
            | Self::NetSilentLong
            | Self::NetRepliesLost
            | Self::NetCutOnReply
            | Self::Instructions(_) => Hits::None,
        }
    }

    /// Whether all agents end of it without being asked to, which counts as a death of
    /// each: without Redis for longer than a lease lives, or as Redis does not know them.
    pub(crate) const fn ends_all_agents(self) -> bool {
        matches!(self, Self::RedisHang | Self::NetSilentLong | Self::RedisOlder | Self::RedisEmpty)
    }

    /// Whether all must be as declared also while it lasts: a control file that cannot
    /// be trusted changes nothing.
    pub(crate) const fn changes_nothing(self) -> bool {
        use Broken::{Gone, Huge, Link, Pipe};
        matches!(
            self,
            Self::Instructions(Gone | Huge | Link | Pipe)
                | Self::Heartbeat(Gone | Huge | Link | Pipe)
        )
    }

    /// Whether it may happen together with others.
    pub(crate) const fn may_pair(self) -> bool {
        !matches!(
            self,
            Self::SysgKill
                | Self::AllKill
                | Self::RedisOlder
                | Self::RedisEmpty
                | Self::Instructions(_)
                | Self::Heartbeat(_)
                | Self::AgentUndeclared
                | Self::Directive(_)
        )
    }

    /// Whether it may happen together with this one, so that each is over by itself.
    pub(crate) fn may_pair_with(self, other: Self) -> bool {
        let both_end = !self.ends().is_empty() && !other.ends().is_empty();
        let both_net = self.is_of_network() && other.is_of_network();
        self.may_pair() && other.may_pair() && !both_end && !both_net
    }

    const fn is_of_network(self) -> bool {
        matches!(
            self,
            Self::NetSlow
                | Self::NetCut
                | Self::NetRefused
                | Self::NetSilent
                | Self::NetSilentLong
                | Self::NetRepliesLost
                | Self::NetCutOnReply
        )
    }
}

/// Which agents a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hits {
    None,
    One,
    Some,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
