//! What is wrong with the files of which agent, for `orch status`.

use std::collections::BTreeMap;

use model::AgentName;
use tokio::sync::watch;

/// The present problems of heartbeat files and their answers, by agent. Clones show
/// the same. Who leads no more should not publish them: they are its last view.
#[derive(Debug, Clone, Default)]
pub struct Problems(watch::Sender<BTreeMap<AgentName, Vec<String>>>);

impl Problems {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The problems now, in sentences; an agent without one is left out.
    #[must_use]
    pub fn current(&self) -> BTreeMap<AgentName, Vec<String>> {
        self.0.borrow().clone()
    }

    /// The problems now, and a notice whenever they change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<AgentName, Vec<String>>> {
        self.0.subscribe()
    }

    /// Whether that is news.
    pub(crate) fn set(&self, agent: &AgentName, problems: Vec<String>) -> bool {
        self.0.send_if_modified(|all| {
            if all.get(agent).map_or(&[][..], Vec::as_slice) == problems {
                return false;
            }
            if problems.is_empty() {
                all.remove(agent);
            } else {
                all.insert(agent.clone(), problems);
            }
            true
        })
    }

    pub(crate) fn retain(&self, mut keep: impl FnMut(&AgentName) -> bool) {
        self.0.send_if_modified(|all| {
            let before = all.len();
            all.retain(|agent, _| keep(agent));
            all.len() != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_should_give_notice_only_when_they_change() {
        let (problems, agent) = (Problems::new(), AgentName::new("a").unwrap());
        let mut notices = problems.subscribe();
        assert!(!problems.set(&agent, vec![]));
        assert!(!notices.has_changed().unwrap());
        assert!(problems.set(&agent, vec!["x".to_owned()]));
        assert!(!problems.set(&agent, vec!["x".to_owned()]));
        assert_eq!(notices.borrow_and_update().len(), 1);
        problems.retain(|_| true);
        assert!(!notices.has_changed().unwrap());
        assert!(problems.set(&agent, vec![]));
        assert!(notices.borrow_and_update().is_empty() && problems.current().is_empty());
    }
}
