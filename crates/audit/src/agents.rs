//! Which process of an agent's name may write.

use std::collections::HashMap;

use crate::report::EventId;
use crate::rule::Rule;
use crate::task::Fault;

/// What is known of who has a name now.
#[derive(Debug, Clone, Copy)]
enum Present {
    /// Nothing: its registration was not seen.
    Unknown,
    /// This incarnation registered, or wrote before anything else was seen.
    Is(u64, EventId),
    /// This incarnation left or died, and nobody came since.
    Gone(u64, EventId),
}

#[derive(Debug)]
struct Agent {
    present: Present,
    /// The highest incarnation that ever registered.
    highest: Option<(u64, EventId)>,
}

/// All agents of a history, by name.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    known: HashMap<String, Agent>,
}

impl Agents {
    fn of(&mut self, name: &str) -> &mut Agent {
        let new = || Agent { present: Present::Unknown, highest: None };
        self.known.entry(name.to_owned()).or_insert_with(new)
    }

    /// A process takes the name.
    pub(crate) fn registered(
        &mut self,
        name: &str,
        incarnation: u64,
        id: EventId,
    ) -> Option<Fault> {
        let agent = self.of(name);
        agent.present = Present::Is(incarnation, id);
        match agent.highest {
            Some((highest, at)) if at < id && incarnation <= highest => Some(Fault::new(
                Rule::S7,
                format!(
                    "{name} registered as incarnation {incarnation} after incarnation {highest}: incarnations have to grow"
                ),
                vec![at, id],
            )),
            Some((highest, _)) if incarnation <= highest => None,
            Some(_) | None => {
                agent.highest = Some((incarnation, id));
                None
            }
        }
    }

    /// The process left, or was seen dead.
    pub(crate) fn ended(&mut self, name: &str, incarnation: u64, id: EventId) {
        let agent = self.of(name);
        // Another one's end says nothing of the present one.
        let is_other = matches!(agent.present, Present::Is(present, _) if present != incarnation);
        if !is_other {
            agent.present = Present::Gone(incarnation, id);
        }
    }

    /// A write of this incarnation was accepted. `whole`: nothing of the history is missing.
    pub(crate) fn wrote(
        &mut self,
        name: &str,
        incarnation: u64,
        id: EventId,
        whole: bool,
    ) -> Option<Fault> {
        let agent = self.of(name);
        let (text, shown) = match agent.present {
            Present::Is(present, _) if present == incarnation => return None,
            Present::Is(present, at) if incarnation < present => (
                format!(
                    "a write of {name}'s incarnation {incarnation} was accepted after {present} had registered"
                ),
                Some(at),
            ),
            Present::Is(present, at) => (
                format!(
                    "a write of {name}'s incarnation {incarnation} was accepted, which never registered; {present} did"
                ),
                Some(at),
            ),
            Present::Gone(gone, at) => (
                format!(
                    "a write of {name}'s incarnation {incarnation} was accepted after {gone} had left or died"
                ),
                Some(at),
            ),
            Present::Unknown if whole => (
                format!(
                    "a write of {name}'s incarnation {incarnation} was accepted, which never registered"
                ),
                None,
            ),
            Present::Unknown => {
                agent.present = Present::Is(incarnation, id);
                return None;
            }
        };
        let events = shown.into_iter().chain([id]).collect();
        Some(Fault::new(Rule::S7, text, events))
    }

    /// Events are missing: who has the name is not known any more.
    pub(crate) fn forget(&mut self) {
        for agent in self.known.values_mut() {
            agent.present = Present::Unknown;
        }
    }
}
