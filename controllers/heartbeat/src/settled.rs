//! Of whose files nothing is left to do: what was so at the last pass is so while the file,
//! its answers, the declaration and what Redis counts of it are as they were then.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use control_files::directives::ack_path;
use control_files::read::Root;
use model::{AgentName, Declared};
use store::agent::Agent;

use crate::observe::content;
use crate::plan::{Content, Snapshot};
use crate::{Reconciler, write};

/// How it all was at a pass that had nothing to do.
#[derive(Debug)]
pub(crate) struct Settled {
    declared: Arc<Declared>,
    /// [`Agent::consumed_version`].
    version: String,
    paused: bool,
    /// Of the heartbeat file; `None` where there is none.
    file: Option<u64>,
    /// Of the file of answers; `None` where there need not be one.
    answers: Option<u64>,
}

/// What two files of an agent are now; absent where they cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prints {
    file: Option<Option<u64>>,
    answers: Option<u64>,
}

/// What two equal texts have in common.
pub(crate) fn print_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn prints(root: &Root, heartbeat: &Path) -> Prints {
    let file = match content(root.read(heartbeat)) {
        Content::Text(text) => Some(Some(print_of(&text))),
        Content::Missing => Some(None),
        Content::Unreadable(_) | Content::Conflict(_) => None,
    };
    let answers = root.read(&ack_path(heartbeat)).ok().map(|text| print_of(&text));
    Prints { file, answers }
}

impl Reconciler {
    /// Looks at the files of all declared agents; none where there is no project.
    pub(crate) async fn prints(&self) -> BTreeMap<AgentName, Prints> {
        let (root, declared) = (self.project_root.clone(), self.declared.borrow().clone());
        write::blocking(move || {
            let Ok(root) = Root::of(&root) else { return BTreeMap::new() };
            let of = declared.agents.values();
            of.map(|spec| (spec.name.clone(), prints(&root, &spec.heartbeat))).collect()
        })
        .await
    }

    /// Whether a pass would find the agent's files as one did that had nothing to do; where
    /// it is not declared there are none.
    pub(crate) fn is_settled(&self, agent: &Agent, now: Option<&Prints>) -> bool {
        let declared = self.declared.borrow().clone();
        if !declared.agents.contains_key(&agent.name) {
            return true;
        }
        let Some(now) = now else { return false };
        self.memory().settled.get(&agent.name).is_some_and(|then| {
            Arc::ptr_eq(&then.declared, &declared)
                && then.version == agent.consumed_version
                && then.paused == agent.paused
                && now.file == Some(then.file)
                && (then.answers.is_none() || then.answers == now.answers)
        })
    }

    /// Remembers how it was at this pass, where it `had_nothing` to do: `answers` is what the
    /// file of answers holds, if there has to be one.
    pub(crate) fn settle(
        &self,
        declared: &Arc<Declared>,
        snapshot: &Snapshot,
        had_nothing: bool,
        answers: Option<&str>,
    ) {
        let file = snapshot.heartbeat.as_ref().and_then(|heartbeat| match &heartbeat.content {
            Content::Text(text) => Some((heartbeat, Some(print_of(text)))),
            Content::Missing => Some((heartbeat, None)),
            Content::Unreadable(_) | Content::Conflict(_) => None,
        });
        let mut memory = self.memory();
        let Some((heartbeat, file)) = file.filter(|_| had_nothing) else {
            memory.settled.remove(&snapshot.agent);
            return;
        };
        let settled = Settled {
            declared: Arc::clone(declared),
            version: heartbeat.consumed.version.clone(),
            paused: snapshot.paused,
            file,
            answers: answers.map(print_of),
        };
        memory.settled.insert(snapshot.agent.clone(), settled);
    }
}
