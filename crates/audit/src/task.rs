//! What the events of one task say: its states, its holders, its failures.

use model::task::{Cause, MAX_LOSSES, State, transition};
use store::event::Event;

use crate::agents::Agents;
use crate::report::EventId;
use crate::rule::Rule;

/// How the reason begins where the last allowed agent was lost: that was not written by
/// the holder.
const LOST: &str = "lost its agent ";

/// A rule that is broken, before it is known of which task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: Rule,
    pub(crate) text: String,
    pub(crate) events: Vec<EventId>,
}

impl Fault {
    pub(crate) fn new(rule: Rule, text: String, mut events: Vec<EventId>) -> Self {
        events.sort_unstable();
        events.dedup();
        Self { rule, text, events }
    }
}

/// What happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changed its state.
    Moved(Cause),
    /// A new plan is without it.
    Removed,
    /// A detour put it into the plan.
    Inserted,
    /// A person let it go on whose budget was spent.
    Unparked,
    /// Its record was gone or damaged, and was begun anew.
    Repaired,
}

impl Kind {
    /// `None` for a word that a newer version may have.
    fn of(kind: &str) -> Option<Self> {
        let word = kind.strip_prefix("task-")?;
        match word {
            "remove" => Some(Self::Removed),
            "insert" => Some(Self::Inserted),
            "unpark" => Some(Self::Unparked),
            "repair" => Some(Self::Repaired),
            word => Cause::ALL.into_iter().find(|cause| cause.as_str() == word).map(Self::Moved),
        }
    }
}

/// An event of a task, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) id: EventId,
    /// Which of all events, from 1.
    pub(crate) ordinal: u64,
    pub(crate) kind: Kind,
    pub(crate) agent: &'a str,
    pub(crate) before: &'a str,
    from: Option<State>,
    to: Option<State>,
    generation: u64,
    incarnation: Option<u64>,
    epoch: Option<u64>,
    reason: &'a str,
}

impl<'a> Told<'a> {
    pub(crate) fn read(event: &'a Event, ordinal: u64) -> Option<Self> {
        Some(Self {
            id: EventId::of(event),
            ordinal,
            kind: Kind::of(&event.kind)?,
            agent: event.field("agent"),
            before: event.field("before"),
            from: event.field("from").parse().ok(),
            to: event.field("to").parse().ok(),
            generation: event.field("generation").parse().unwrap_or(0),
            incarnation: event.field("incarnation").parse().ok(),
            epoch: event.field("epoch").parse().ok(),
            reason: event.field("reason"),
        })
    }

    fn unreadable(&self, what: &str) -> Fault {
        Fault::new(Rule::S1, format!("an event of it does not say {what}"), vec![self.id])
    }
}

/// Where a task stands as far as its events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its events are missing.
    Unknown,
    /// It came with a plan and nothing happened to it: READY or BLOCKED.
    Fresh,
    In(State),
    Removed,
}

/// The right to run it, as it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) agent: String,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    generation: u64,
    event: EventId,
}

/// How often something happened since it was last counted anew.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) times: u32,
    pub(crate) first: EventId,
    pub(crate) last: EventId,
}

impl Tally {
    fn add(&mut self, id: EventId) {
        self.times += 1;
        self.last = id;
        if self.times == 1 {
            self.first = id;
        }
    }
}

/// One task's history.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) goal: String,
    pub(crate) standing: Standing,
    /// Its last event.
    pub(crate) last: EventId,
    /// The holder, while it runs.
    pub(crate) grant: Option<Grant>,
    /// Of which plan its last event was.
    pub(crate) generation: u64,
    /// Failed attempts that were not the last allowed one.
    pub(crate) retries: Tally,
    /// Which event made it DONE.
    pub(crate) done_at: Option<u64>,
    /// Whether it has events of the time in which the state was read.
    pub(crate) moved: bool,
    losses: Tally,
    /// The highest epoch that was ever granted, also before it was removed.
    highest: Option<(u64, EventId)>,
    /// The generation whose completion was accepted.
    completed: Option<(u64, EventId)>,
}

impl Track {
    /// `whole`: nothing of the history is missing.
    pub(crate) fn new(goal: &str, whole: bool) -> Self {
        Self {
            goal: goal.to_owned(),
            standing: if whole { Standing::Fresh } else { Standing::Unknown },
            last: EventId::default(),
            grant: None,
            generation: 0,
            retries: Tally::default(),
            done_at: None,
            moved: false,
            losses: Tally::default(),
            highest: None,
            completed: None,
        }
    }

    /// Events are missing: nothing is known any more but the highest epoch.
    pub(crate) fn forget(&mut self) {
        self.begin(Standing::Unknown, 0);
    }

    fn begin(&mut self, standing: Standing, generation: u64) {
        self.standing = standing;
        self.generation = generation;
        self.grant = None;
        self.completed = None;
        self.done_at = None;
        self.count_anew();
    }

    fn count_anew(&mut self) {
        self.retries = Tally::default();
        self.losses = Tally::default();
    }

    /// Takes in one event. `whole`: nothing of the history is missing.
    pub(crate) fn event(
        &mut self,
        told: &Told<'_>,
        agents: &mut Agents,
        whole: bool,
    ) -> Vec<Fault> {
        let faults = match told.kind {
            Kind::Moved(cause) => self.moved(told, cause, agents, whole),
            Kind::Removed => {
                let fault = told.from.and_then(|from| {
                    // It may have come back and gone again without a step between.
                    self.follow_plan(told, from);
                    self.continuity(told, from)
                });
                self.begin(Standing::Removed, told.generation);
                fault.into_iter().collect()
            }
            Kind::Inserted => {
                let fault = matches!(self.standing, Standing::In(_)).then(|| {
                    let text = "a detour put it into the plan in which it was".to_owned();
                    Fault::new(Rule::S1, text, vec![self.last, told.id])
                });
                self.begin(Standing::In(State::Ready), told.generation);
                fault.into_iter().collect()
            }
            Kind::Unparked => {
                self.count_anew();
                self.continuity(told, State::Ready).into_iter().collect()
            }
            Kind::Repaired => {
                self.begin(Standing::In(State::Blocked), told.generation);
                Vec::new()
            }
        };
        self.last = told.id;
        faults
    }

    fn moved(
        &mut self,
        told: &Told<'_>,
        cause: Cause,
        agents: &mut Agents,
        whole: bool,
    ) -> Vec<Fault> {
        let (Some(from), Some(to)) = (told.from, told.to) else {
            return vec![told.unreadable("from which state to which it went")];
        };
        self.follow_plan(told, from);
        let mut faults = match cause {
            Cause::Claim => self.claimed(told, agents, whole),
            Cause::Complete
            | Cause::Retry
            | Cause::Fail
            | Cause::Lose
            | Cause::Release
            | Cause::Detour
            | Cause::Drop => self.settled(told, cause, agents, whole),
            Cause::Unblock | Cause::Block | Cause::Revise => Vec::new(),
            Cause::Reset => {
                self.count_anew();
                Vec::new()
            }
        };
        if faults.is_empty() {
            faults.extend(self.continuity(told, from));
        }
        if faults.is_empty() && transition(from, cause) != Some(to) {
            let rule = if from == State::Done { Rule::S2 } else { Rule::S1 };
            let text = format!("it went from {from} to {to} by `{cause}`, which is no legal step");
            faults.push(Fault::new(rule, text, vec![told.id]));
        }
        faults.extend(self.failed(told, cause));
        self.arrive(told, cause, to);
        faults
    }

    /// A plan that changed the task starts its counts anew; one that was removed may be back.
    fn follow_plan(&mut self, told: &Told<'_>, from: State) {
        if told.generation <= self.generation {
            return;
        }
        let back =
            self.standing == Standing::Removed && matches!(from, State::Ready | State::Blocked);
        if back {
            self.begin(Standing::Fresh, told.generation);
        }
        self.generation = told.generation;
        self.count_anew();
    }

    fn claimed(&mut self, told: &Told<'_>, agents: &mut Agents, whole: bool) -> Vec<Fault> {
        let (Some(epoch), Some(incarnation)) = (told.epoch, told.incarnation) else {
            return vec![
                told.unreadable("under which epoch and to which incarnation it was granted"),
            ];
        };
        let mut faults = Vec::new();
        match self.highest {
            Some((highest, at)) if at < told.id && epoch <= highest => {
                let text = if epoch == highest {
                    format!("it was granted twice under epoch {epoch}")
                } else {
                    format!("it was granted under epoch {epoch} after epoch {highest}")
                };
                faults.push(Fault::new(Rule::S4, text, vec![at, told.id]));
            }
            Some((highest, _)) if epoch <= highest => {}
            Some(_) | None => self.highest = Some((epoch, told.id)),
        }
        match (self.standing, &self.grant) {
            (Standing::In(State::Running), Some(held)) => {
                let text = format!(
                    "it was granted to {} under epoch {epoch} while {} held it under epoch {}",
                    told.agent, held.agent, held.epoch
                );
                faults.push(Fault::new(Rule::Overlap, text, vec![held.event, told.id]));
            }
            (Standing::In(State::Done), _) => {
                let text = "it was granted again after it was DONE, in the same plan".to_owned();
                faults.push(Fault::new(Rule::S2, text, vec![self.last, told.id]));
                // Its next completion is the same fault.
                self.completed = None;
            }
            (Standing::In(_) | Standing::Unknown | Standing::Fresh | Standing::Removed, _) => {}
        }
        faults.extend(agents.wrote(told.agent, incarnation, told.id, whole));
        self.grant = Some(Grant {
            agent: told.agent.to_owned(),
            incarnation,
            epoch,
            generation: told.generation,
            event: told.id,
        });
        faults
    }

    /// The end of an attempt, said by the holder or in its place.
    fn settled(
        &mut self,
        told: &Told<'_>,
        cause: Cause,
        agents: &mut Agents,
        whole: bool,
    ) -> Vec<Fault> {
        let (Some(epoch), Some(incarnation)) = (told.epoch, told.incarnation) else {
            return vec![told.unreadable("under which epoch, by which incarnation")];
        };
        if let Some(fault) = self.stale(told, cause, epoch, incarnation) {
            return vec![fault];
        }
        let by_holder = match cause {
            Cause::Complete | Cause::Retry | Cause::Release | Cause::Detour => true,
            Cause::Fail => !told.reason.starts_with(LOST),
            Cause::Lose
            | Cause::Drop
            | Cause::Claim
            | Cause::Unblock
            | Cause::Block
            | Cause::Reset
            | Cause::Revise => false,
        };
        let fault =
            by_holder.then(|| agents.wrote(told.agent, incarnation, told.id, whole)).flatten();
        fault.into_iter().collect()
    }

    /// Whether somebody wrote who did not hold it.
    fn stale(&self, told: &Told<'_>, cause: Cause, epoch: u64, incarnation: u64) -> Option<Fault> {
        let who = format!("`{cause}` of {} under epoch {epoch}", told.agent);
        if let (Standing::In(State::Running), Some(held)) = (self.standing, &self.grant) {
            let (text, is_stale) = if held.epoch != epoch {
                let text = format!(
                    "{who} was accepted while {} held it under epoch {}",
                    held.agent, held.epoch
                );
                (text, true)
            } else if held.agent != told.agent || held.incarnation != incarnation {
                let text = format!(
                    "{who}, incarnation {incarnation}, was accepted, which was granted to {}, \
                     incarnation {}",
                    held.agent, held.incarnation
                );
                (text, true)
            } else {
                let text = format!("{who} was accepted for a plan that came after the grant");
                (text, cause == Cause::Complete && told.generation != held.generation)
            };
            return is_stale.then(|| Fault::new(Rule::S3, text, vec![held.event, told.id]));
        }
        let done = self.completed.filter(|(generation, _)| *generation == told.generation);
        let known = self.highest.filter(|(highest, _)| epoch <= *highest);
        match (self.standing, done, known) {
            (Standing::Unknown, _, _) => None,
            (_, Some((_, at)), _) if cause == Cause::Complete => {
                let text = format!("{who} was accepted, the second completion of one plan");
                Some(Fault::new(Rule::S2, text, vec![at, told.id]))
            }
            (_, _, Some((_, at))) => {
                let text = format!("{who} was accepted though its lease had ended");
                Some(Fault::new(Rule::S3, text, vec![at, self.last, told.id]))
            }
            (Standing::Removed, _, None) => {
                let text = format!("{who} was accepted though the task had been removed");
                Some(Fault::new(Rule::S3, text, vec![self.last, told.id]))
            }
            (Standing::Fresh | Standing::In(_), _, None) => {
                let text = format!("{who} was accepted, and no event says that it was granted");
                Some(Fault::new(Rule::S1, text, vec![told.id]))
            }
        }
    }

    /// Whether the event takes the task from where the one before it left it.
    fn continuity(&self, told: &Told<'_>, from: State) -> Option<Fault> {
        let (rule, text) = match self.standing {
            Standing::Unknown => return None,
            Standing::In(state) if state == from => return None,
            Standing::Fresh if matches!(from, State::Ready | State::Blocked) => return None,
            Standing::Fresh => (
                Rule::S1,
                format!("it was {from} before its first event: a new task is ready or blocked"),
            ),
            Standing::In(State::Done) => {
                (Rule::S2, format!("it was {from} after it was DONE, without a new plan"))
            }
            Standing::In(state) => (
                Rule::S1,
                format!("it was {from} though its event before left it {state}: one is missing"),
            ),
            Standing::Removed => (Rule::S1, "it changed after it was removed".to_owned()),
        };
        let before = (self.last != EventId::default()).then_some(self.last);
        Some(Fault::new(rule, text, before.into_iter().chain([told.id]).collect()))
    }

    /// Counts failures.
    fn failed(&mut self, told: &Told<'_>, cause: Cause) -> Option<Fault> {
        match cause {
            // A failure of what the plan meanwhile changed does not count. Whether it did
            // is not known where the grant was not seen.
            Cause::Retry => {
                if self.grant.as_ref().is_some_and(|held| held.generation == told.generation) {
                    self.retries.add(told.id);
                }
                None
            }
            Cause::Lose => {
                self.losses.add(told.id);
                (self.losses.times == MAX_LOSSES).then(|| {
                    let text = format!(
                        "it lost its agent {MAX_LOSSES} times and is not FAILED: the last allowed \
                         loss ends it"
                    );
                    Fault::new(Rule::S6, text, vec![self.losses.first, told.id])
                })
            }
            Cause::Fail if told.reason.is_empty() => {
                let text = "it FAILED and no reason is given".to_owned();
                Some(Fault::new(Rule::S6, text, vec![told.id]))
            }
            Cause::Fail
            | Cause::Unblock
            | Cause::Block
            | Cause::Claim
            | Cause::Complete
            | Cause::Release
            | Cause::Detour
            | Cause::Drop
            | Cause::Reset
            | Cause::Revise => None,
        }
    }

    fn arrive(&mut self, told: &Told<'_>, cause: Cause, to: State) {
        self.standing = Standing::In(to);
        if to != State::Running {
            self.grant = None;
        }
        if cause == Cause::Complete {
            self.completed = Some((told.generation, told.id));
        }
        if cause == Cause::Revise {
            self.done_at = None;
        } else if to == State::Done {
            self.done_at = self.done_at.or(Some(told.ordinal));
        }
    }
}
