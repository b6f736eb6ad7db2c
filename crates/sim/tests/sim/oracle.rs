//! What Redis has to refuse, by what stands in it: requests of whoever is out of date.

use crate::checks::Sight;
use crate::resp::{Reply, Words};

const CONTROLLERS: [&str; 4] = ["agent", "dag", "lease", "heartbeat"];
/// What a script says that changed nothing because of who asked.
const REFUSALS: [&str; 3] = ["fenced", "already", "stale"];
/// What a sign of life begins with, whose second word says the same of the task it names.
const BEATS: &str = "ok";

/// Why a request must change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) why: String,
    /// It is about a task that runs, only under another lease: nearly right.
    pub(crate) is_close: bool,
}

/// Why this request must change nothing; none where it may.
pub(crate) fn must_refuse(sight: &Sight, burst: &[Words]) -> Option<Late> {
    let [words] = burst else { return None };
    let args: Vec<&str> =
        words.get(3..)?.iter().map(|word| std::str::from_utf8(word).unwrap_or("")).collect();
    former_leader(sight, &args)
        .map(|why| Late { why, is_close: false })
        .or_else(|| former_pulse(sight, &args))
        .or_else(|| former_holder(sight, &args))
}

/// Whether the reply to it is a refusal.
pub(crate) fn is_refusal(reply: &[u8]) -> bool {
    if reply.starts_with(b"-") {
        return false;
    }
    let Reply::List(parts) = Reply::read(reply) else { return false };
    // A reply of lists says what there is, not what came of it.
    let words = parts.iter().filter(|part| matches!(part, Reply::Text(_))).map(Reply::text);
    let verdict = words.into_iter().find(|word| word != BEATS);
    verdict.is_some_and(|word| REFUSALS.contains(&word.as_str()))
}

/// A controller's scripts have its name and its leader epoch, after the time or first.
fn former_leader(sight: &Sight, args: &[&str]) -> Option<String> {
    let pairs = args.windows(2).take(2).map(|pair| (pair[0], pair[1]));
    let (controller, epoch) =
        pairs.into_iter().find(|(name, epoch)| CONTROLLERS.contains(name) && is_number(epoch))?;
    let held = sight.leaders.get(controller).map_or("", String::as_str);
    let mut words = held.split(' ');
    let (current, holder) = (words.next().unwrap_or(""), words.nth(1).unwrap_or(""));
    (current != epoch || holder == "-")
        .then(|| format!("{controller} wrote under {epoch}, and it is led under `{held}`"))
}

/// Who reaps names the pulse that was judged, after the task.
fn former_pulse(sight: &Sight, args: &[&str]) -> Option<Late> {
    let [_, "lease", _, id, pulse, ..] = args else { return None };
    let task = sight.tasks.iter().find(|task| task.id == *id)?;
    (task.lease != *pulse).then(|| Late {
        why: format!("the reaper judged {id} by {pulse}, and its lease is `{}`", task.lease),
        is_close: task.status == "running",
    })
}

/// A holder's scripts have the time, its name, its incarnation, the task and the epoch; a
/// sign of life has the length of the lease before these two.
fn former_holder(sight: &Sight, args: &[&str]) -> Option<Late> {
    let (agent, incarnation, task, epoch) = match args {
        [_, agent, incarnation, ttl, task, epoch, ..] if is_number(ttl) => {
            (agent, incarnation, task, epoch)
        }
        [_, agent, incarnation, task, epoch, ..] => (agent, incarnation, task, epoch),
        _ => return None,
    };
    if !is_number(incarnation) || !is_number(epoch) {
        return None;
    }
    let task = sight.tasks.iter().find(|known| known.id == *task)?;
    let present = sight.agents.iter().find(|known| known.name == *agent)?;
    let holds = present.incarnation == *incarnation
        && task.status == "running"
        && (task.owner.as_str(), task.epoch.as_str()) == (*agent, *epoch);
    (!holds).then(|| Late {
        why: format!(
            "{agent} {incarnation} wrote to {} under {epoch}: it is {} for {} under {}, and {} has the name",
            task.id, task.status, task.owner, task.epoch, present.incarnation
        ),
        is_close: task.status == "running" && task.owner == *agent,
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
