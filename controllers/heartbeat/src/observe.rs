//! Reading what one agent's heartbeat is now.

use std::path::Path;
use std::time::Duration;

use control_files::directives::ack_path;
use control_files::read;
use model::{AgentName, AgentSpec, Declared};
use store::agent::Registered;
use tokio::time::Instant;

use crate::plan::{Content, Heartbeat, Liveness, Sign, Snapshot};
use crate::settled::print_of;
use crate::{Reconciler, write};

impl Reconciler {
    pub(crate) async fn observe(
        &self,
        name: &AgentName,
        declared: &Declared,
    ) -> Result<Snapshot, store::Error> {
        let asked = Instant::now();
        let agent = self.store.agent(name).await?;
        let answered = Instant::now();
        let sign = self.judge(name, agent.registered.as_ref(), asked, answered);
        Ok(Snapshot {
            agent: name.clone(),
            heartbeat: self.observe_file(name, declared).await?,
            sign,
            recorded: Liveness::recorded(&agent),
            paused: agent.paused,
        })
    }

    pub(crate) fn judge(
        &self,
        name: &AgentName,
        registered: Option<&Registered>,
        asked: Instant,
        answered: Instant,
    ) -> Sign {
        let mut memory = self.memory();
        let Some(r) = registered else {
            memory.beats.forget(name);
            memory.beating.remove(name);
            return Sign::Absent;
        };
        let beat = (r.incarnation, r.beat);
        match memory.beats.look(name.clone(), beat, asked, answered) {
            // It is told by the look that sees it, and by those after it.
            Some(Duration::ZERO) => {
                memory.beating.insert(name.clone());
                Sign::Beats
            }
            Some(still) if still < self.ttl && memory.beating.contains(name) => Sign::Beats,
            still => {
                memory.beating.remove(name);
                still.map_or(Sign::FirstSeen, Sign::Still)
            }
        }
    }

    async fn observe_file(
        &self,
        name: &AgentName,
        declared: &Declared,
    ) -> Result<Option<Heartbeat>, store::Error> {
        let Some(spec) = declared.agents.get(name) else { return Ok(None) };
        let content = match conflict(declared, spec) {
            Some(problem) => Content::Conflict(problem),
            None => {
                let (root, path) = (self.project_root.clone(), spec.heartbeat.clone());
                write::blocking(move || read_file(&root, &path)).await
            }
        };
        let (unchanged, postponed) = self.remember(name, &content);
        Ok(Some(Heartbeat {
            goal: spec.goal.clone(),
            path: spec.heartbeat.clone(),
            content,
            unchanged,
            postponed,
            consumed: self.store.consumed(name).await?,
        }))
    }

    fn remember(&self, name: &AgentName, content: &Content) -> (Duration, Duration) {
        let now = Instant::now();
        let mut memory = self.memory();
        let unchanged = match content {
            Content::Text(text) => {
                memory.texts.look(name.clone(), print_of(text), now, now).unwrap_or_default()
            }
            Content::Missing | Content::Unreadable(_) | Content::Conflict(_) => {
                memory.texts.forget(name);
                Duration::ZERO
            }
        };
        let since = memory.postponed.get(name).copied();
        (unchanged, since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)))
    }
}

fn read_file(root: &Path, path: &Path) -> Content {
    content(read::read(root, path))
}

pub(crate) fn content(read: Result<String, read::Error>) -> Content {
    match read {
        Ok(text) => Content::Text(text),
        Err(read::Error::NotFound(_)) => Content::Missing,
        Err(error) => Content::Unreadable(reconcile::error_chain(&error)),
    }
}

/// Why the file may not be used: each line belongs to one agent, and answers must
/// overwrite no file of a person. Of two agents the first by name keeps it.
fn conflict(declared: &Declared, spec: &AgentSpec) -> Option<String> {
    let answers = ack_path(&spec.heartbeat);
    let advice = "give each agent a heartbeat file of its own";
    declared.agents.values().find_map(|other| {
        let mine = other.name == spec.name;
        let first = other.name < spec.name;
        if first && other.heartbeat == spec.heartbeat {
            let path = spec.heartbeat.display();
            Some(format!("`{path}` is the heartbeat file of {} too: {advice}", other.name))
        } else if first && ack_path(&other.heartbeat) == answers {
            let path = answers.display();
            Some(format!("`{path}` holds the answers to {} too: {advice}", other.name))
        } else if answers == other.instructions || (!mine && answers == other.heartbeat) {
            let path = answers.display();
            Some(format!("the answers would overwrite `{path}` of {}: {advice}", other.name))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use model::agent::LogLevel;
    use model::{GoalId, Role};

    use super::*;

    fn declared(agents: &[(&str, &str)]) -> Declared {
        let spec = |(name, heartbeat): &(&str, &str)| {
            let name = AgentName::new(*name).unwrap();
            let spec = AgentSpec {
                name: name.clone(),
                goal: GoalId::new("g").unwrap(),
                role: Role::new("r").unwrap(),
                heartbeat: PathBuf::from(heartbeat),
                instructions: PathBuf::from(format!("/p/{name}.md")),
                log_level: LogLevel::Info,
                cadence: None,
                provider: None,
                model: None,
                tools: Vec::new(),
                permission_mode: None,
                environment: Vec::new(),
                spec_hash: String::new(),
            };
            (name, spec)
        };
        Declared { agents: agents.iter().map(spec).collect(), ..Declared::default() }
    }

    #[test]
    fn heartbeat_file_should_belong_to_one_agent() {
        let all = declared(&[
            ("a", "/p/h/a.md"),
            ("b", "/p/h/a.md"),
            ("c", "/p/h/c"),
            ("d", "/p/h/c.md"),
            ("e", "/p/h/e.md"),
            ("f", "/p/h/e.ack.md"),
            ("k.ack", "/p/k.md"),
        ]);
        let of = |name: &str| conflict(&all, &all.agents[&AgentName::new(name).unwrap()]);
        assert_eq!((of("a"), of("c"), of("f")), (None, None, None));
        let text = of("b").unwrap();
        assert!(text.starts_with("`/p/h/a.md` is the heartbeat file of a too"), "{text}");
        let text = of("d").unwrap();
        assert!(text.starts_with("`/p/h/c.ack.md` holds the answers to c too"), "{text}");
        let text = of("e").unwrap();
        assert!(text.starts_with("the answers would overwrite `/p/h/e.ack.md` of f"), "{text}");
        let text = of("k.ack").unwrap();
        assert!(text.starts_with("the answers would overwrite `/p/k.ack.md` of k.ack"), "{text}");
    }
}
