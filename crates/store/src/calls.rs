//! How calls to Redis go: how long they take, how often they fail, how often they were
//! refused because the caller was out of date.
//!
//! Off until somebody asks with [`Store::measure_calls`]; then a call costs a lock and a
//! few additions more. An agent has no port to be asked at: it adds what it measured to
//! one hash for all agents with [`Store::add_measures`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::cmd;

use crate::connection::Store;
use crate::error::Error;
use crate::{keys, script};

/// The upper bounds of [`Call::buckets`], in microseconds; the last bucket has none.
pub const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_000_000, 10_000_000];

/// Kinds of errors, as [`Call::errors`] counts them.
pub const ERRORS: [&str; 3] = ["unavailable", "denied", "failed"];

/// What is known of the calls of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// How many ended, by how long they took with all their tries; see [`BOUNDS_US`].
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// How long they took together, in microseconds.
    pub sum_us: u64,
    /// How many tries there were besides the first ones.
    pub retries: u64,
    /// How many were refused because the caller was out of date.
    pub fenced: u64,
    /// How many failed after all tries, by [`ERRORS`].
    pub errors: [u64; ERRORS.len()],
}

impl Call {
    fn took(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Every number with its name within the call's.
    fn numbers(&mut self) -> impl Iterator<Item = (String, &mut u64)> {
        let buckets = self.buckets.iter_mut().enumerate().map(|(i, n)| (format!("bucket{i}"), n));
        let errors = ERRORS.iter().map(|name| (*name).to_owned()).zip(&mut self.errors);
        let rest = [
            ("us".to_owned(), &mut self.sum_us),
            ("retries".to_owned(), &mut self.retries),
            ("fenced".to_owned(), &mut self.fenced),
        ];
        buckets.chain(errors).chain(rest)
    }
}

/// What was measured, by what was asked of Redis.
pub type Measures = BTreeMap<String, Call>;

/// Measures the calls of the stores that share it. Clones share what they measure.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<&'static str, Call>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ended(&self, what: &'static str, took: Duration, retries: u64) {
        let mut calls = self.lock();
        let call = calls.entry(what).or_default();
        call.took(took);
        call.retries += retries;
    }

    pub(crate) fn failed(&self, what: &'static str, error: &Error) {
        let kind = match error {
            Error::Unavailable { .. } => "unavailable",
            Error::Denied { .. } => "denied",
            Error::Failed { .. }
            | Error::NotLeader { .. }
            | Error::Malformed { .. }
            | Error::IdTaken { .. }
            | Error::PlanMoved { .. }
            | Error::TooOld { .. }
            | Error::Cluster => "failed",
        };
        if let Some(at) = ERRORS.iter().position(|name| *name == kind)
            && let Some(count) = self.lock().entry(what).or_default().errors.get_mut(at)
        {
            *count += 1;
        }
    }

    pub(crate) fn fenced(&self, what: &'static str) {
        self.lock().entry(what).or_default().fenced += 1;
    }

    /// All that was measured until now.
    #[must_use]
    pub fn so_far(&self) -> Measures {
        self.lock().iter().map(|(what, call)| ((*what).to_owned(), call.clone())).collect()
    }

    /// What was measured since this was last asked.
    #[must_use]
    pub fn take(&self) -> Measures {
        let taken = std::mem::take(&mut *self.lock());
        taken.into_iter().map(|(what, call)| (what.to_owned(), call)).collect()
    }
}

impl Store {
    /// Measures the calls of this store and all its clones from now on. A second time
    /// it returns what measures already.
    pub fn measure_calls(&self) -> Calls {
        self.calls.get_or_init(Calls::default).clone()
    }

    /// Adds what a process measured to what all agents have measured. The same `report` of
    /// the same `writer` counts once, so it may be told until that succeeds; the next one has
    /// a higher number. `writer` is a name that no other process has.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer; then it may have been added or not.
    pub async fn add_measures(
        &self,
        writer: &str,
        report: u64,
        measures: &Measures,
    ) -> Result<(), Error> {
        let mut args = vec![self.now(), writer.to_owned(), report.to_string()];
        for (what, call) in measures {
            let mut call = call.clone();
            for (name, number) in call.numbers().filter(|(_, number)| **number > 0) {
                args.extend([format!("{what}|{name}"), number.to_string()]);
            }
        }
        let reply = self.call("add what was measured", &script::MEASURES, args).await?;
        match reply.verdict() {
            "added" | "already" => Ok(()),
            _ => Err(reply.surprise()),
        }
    }

    /// What all agents have measured. What is no measure there is left out.
    ///
    /// # Errors
    /// [`Error`] where Redis did not answer.
    pub async fn measures(&self) -> Result<Measures, Error> {
        let fields: Vec<(String, String)> =
            self.ask("read what agents measured", cmd("HGETALL").arg(keys::CALLS)).await?;
        Ok(read(fields))
    }
}

fn read(fields: Vec<(String, String)>) -> Measures {
    let mut measures = Measures::new();
    for (field, value) in fields {
        let (Some((what, wanted)), Ok(value)) = (field.rsplit_once('|'), value.parse()) else {
            continue;
        };
        let call = measures.entry(what.to_owned()).or_default();
        let found = call.numbers().find(|(name, _)| name == wanted);
        if let Some((_, number)) = found {
            *number = value;
        }
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_should_be_counted_in_the_bucket_of_its_time() {
        let calls = Calls::default();
        for micros in [100, 101, 99_000_000] {
            calls.ended("beat", Duration::from_micros(micros), 1);
        }
        calls.fenced("beat");
        calls.failed("beat", &Error::Cluster);
        let call = &calls.so_far()["beat"];
        assert_eq!((call.buckets[0], call.buckets[1], call.buckets[12]), (1, 1, 1));
        assert_eq!((call.sum_us, call.retries, call.fenced), (99_000_201, 3, 1));
        assert_eq!(call.errors, [0, 0, 1]);
        assert_eq!(calls.take().len(), 1);
        assert!(calls.so_far().is_empty());
    }

    #[test]
    fn measures_should_be_read_whatever_stands_there() {
        let pairs = [("a b|bucket2", "3"), ("a b|us", "7"), ("x", "1"), ("a b|denied", "x")];
        let fields = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let measures = read(fields.to_vec());
        let call = &measures["a b"];
        assert_eq!((call.buckets[2], call.sum_us, call.errors), (3, 7, [0; 3]));
    }
}
