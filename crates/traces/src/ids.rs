//! Ids of traces and spans, derived from what they are about.
//!
//! SHA-256 of the parts, each with its length before it; `fleet` is what tells projects
//! apart. An epoch or an incarnation is never given twice, so neither is an id.

use sha2::{Digest, Sha256};

use crate::span::{Place, SpanId, TraceId};

/// The root of an attempt's trace.
#[must_use]
pub fn attempt(fleet: &str, task: &str, epoch: &str) -> Place {
    place(&["attempt", fleet, task, epoch])
}

/// The root of the trace of one plan of a goal.
#[must_use]
pub fn goal(fleet: &str, goal: &str, generation: &str) -> Place {
    place(&["goal", fleet, goal, generation])
}

/// The root of the trace that begins with the death of an agent's process.
#[must_use]
pub fn recovery(fleet: &str, agent: &str, incarnation: &str) -> Place {
    place(&["recovery", fleet, agent, incarnation])
}

/// A part of the span at `of`.
#[must_use]
pub fn part(of: &Place, key: &str) -> SpanId {
    let parent = of.span.to_string();
    place(&["part", &of.trace.to_string(), &parent, key]).span
}

fn place(parts: &[&str]) -> Place {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut place = Place { trace: TraceId([0; 16]), span: SpanId([0; 8]) };
    place.trace.0.copy_from_slice(&hash[..16]);
    place.span.0.copy_from_slice(&hash[16..24]);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_should_be_the_same_for_the_same_and_differ_for_all_else() {
        let one = attempt("f", "task-001", "7");
        assert_eq!(one, attempt("f", "task-001", "7"));
        let others = [
            attempt("f", "task-00", "17"),
            attempt("g", "task-001", "7"),
            goal("f", "task-001", "7"),
            recovery("f", "task-001", "7"),
        ];
        assert!(others.iter().all(|other| other.trace != one.trace && other.span != one.span));
        assert_ne!(part(&one, "wait"), part(&one, "execute"));
        assert_eq!(one.trace.to_string().len(), 32);
    }
}
