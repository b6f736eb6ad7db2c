//! Bugs that are planted into the protocol to see that the rules find them.

use crate::rules::Rule;

/// What is wrong with the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A holder's write is accepted under any epoch.
    EpochNotChecked,
    /// Who has the lock, or finds it expired, may write; there are no epochs.
    LockByTtlOnly,
    /// A claim first looks for a READY task and then takes it.
    ClaimInTwoSteps,
    /// A task is READY when the first of its dependencies is done.
    DependencySkipped,
    /// Whoever has an agent's name may write for it.
    StaleIncarnationAccepted,
    /// The reaper ends a lease without looking at it again.
    ReaperWithoutRecheck,
    /// Epochs and incarnations count up from what Redis holds, whatever the time.
    EpochFromCounterOnly,
    /// A death ends what the agent's name holds, whichever process that is.
    BuryWithoutIncarnation,
    /// A failed task is tried again for ever.
    RetryWithoutCap,
    /// What waits for a task is counted down by a second script.
    UnblockApart,
    /// A report that was accepted is accepted again.
    RepeatAccepted,
    /// Neither the reaper nor a new process ends what a dead one held.
    DeathUnnoticed,
}

/// Every bug with a rule that it must be seen to break.
pub(crate) const PLANTED: [(Bug, Rule); 12] = [
    (Bug::EpochNotChecked, Rule::Fenced),
    (Bug::LockByTtlOnly, Rule::Fenced),
    (Bug::ClaimInTwoSteps, Rule::OneHolder),
    (Bug::DependencySkipped, Rule::DependenciesDone),
    (Bug::StaleIncarnationAccepted, Rule::OneWriter),
    (Bug::ReaperWithoutRecheck, Rule::LeaseKept),
    (Bug::EpochFromCounterOnly, Rule::EpochsGrow),
    (Bug::BuryWithoutIncarnation, Rule::LeaseKept),
    (Bug::RetryWithoutCap, Rule::AttemptsBounded),
    (Bug::UnblockApart, Rule::AllEnd),
    (Bug::RepeatAccepted, Rule::OneCompletion),
    (Bug::DeathUnnoticed, Rule::AllEnd),
];
