//! Which fault comes next: cards of a deck that the seed shuffles, so that each kind
//! comes in its turn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::AgentName;
use process::Identity;

use crate::kind::{Hits, Kind, Service};
use crate::scene::Targets;

/// What systemg waits before it starts a service again that ended: so long the first
/// time, then doubling, until it has lived for `STABLE`.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const STABLE: Duration = Duration::from_secs(60);
/// A fault that would make systemg wait longer is put off: it would show nothing but that.
const LONGEST_BACKOFF: Duration = Duration::from_millis(3_200);

/// An agent that died more often than this, without a minute of health between, is left
/// alone: it would only wait longer and longer before its next start, as it should.
const MOST_DEATHS: u32 = 4;

/// The faults to come.
pub(crate) struct Deck {
    kinds: Vec<Kind>,
    cards: Vec<Kind>,
}

impl Deck {
    /// Of these kinds; of all where there are none.
    pub(crate) fn new(only: &[Kind]) -> Self {
        let kinds = if only.is_empty() { Kind::ALL } else { only };
        let each = |kind: &Kind| std::iter::repeat_n(*kind, kind.weight());
        Self { kinds: kinds.iter().flat_map(each).collect(), cards: Vec::new() }
    }

    /// The next card that may be played now; the others keep their places.
    pub(crate) fn draw(
        &mut self,
        random: &mut fastrand::Rng,
        may: impl Fn(Kind) -> bool,
    ) -> Option<Kind> {
        if !self.cards.iter().any(|card| may(*card)) {
            let mut more = self.kinds.clone();
            random.shuffle(&mut more);
            self.cards.extend(more);
        }
        let at = self.cards.iter().position(|card| may(*card))?;
        Some(self.cards.remove(at))
    }
}

/// How long systemg will wait before it starts a service again, by its own rules.
#[derive(Debug, Default)]
pub(crate) struct Restarts(BTreeMap<Service, (Instant, u32)>);

impl Restarts {
    /// If the service ended now.
    pub(crate) fn backoff(&self, service: Service) -> Duration {
        FIRST_BACKOFF * 2u32.saturating_pow(self.unstable(service))
    }

    /// The services that end now.
    pub(crate) fn ended(&mut self, services: &[Service]) {
        for service in services {
            let unstable = self.unstable(*service);
            self.0.insert(*service, (Instant::now() + self.backoff(*service), unstable + 1));
        }
    }

    /// Whether a fault of this kind shows more than systemg's patience.
    pub(crate) fn allow(&self, kind: Kind) -> bool {
        kind.ends().iter().all(|service| self.backoff(*service) <= LONGEST_BACKOFF)
    }

    /// How often it ended before it had lived for long.
    fn unstable(&self, service: Service) -> u32 {
        match self.0.get(&service) {
            Some((started, _)) if started.elapsed() >= STABLE => 0,
            Some((_, unstable)) => *unstable,
            None => 0,
        }
    }
}

/// How often agents died before they had been well for long, as their controller counts.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    orchestrator: Option<Identity>,
    agents: BTreeMap<AgentName, (Identity, Instant, u32)>,
}

impl Deaths {
    /// Takes note of who is there now.
    pub(crate) fn look(&mut self, targets: &Targets) {
        // A new one knows of no deaths.
        if self.orchestrator.replace(targets.orchestrator) != Some(targets.orchestrator) {
            self.agents.clear();
        }
        for agent in &targets.agents {
            let fresh = (agent.process, Instant::now(), 0);
            let known = self.agents.entry(agent.name.clone()).or_insert(fresh);
            let deaths = if known.1.elapsed() >= STABLE { 0 } else { known.2 };
            if known.0 != agent.process {
                *known = (agent.process, Instant::now(), deaths + 1);
            }
        }
    }

    /// How often this one died.
    pub(crate) fn of(&self, agent: &AgentName) -> u32 {
        self.agents
            .get(agent)
            .filter(|(_, since, _)| since.elapsed() < STABLE)
            .map_or(0, |(_, _, deaths)| *deaths)
    }

    /// Whether a fault of this kind shows more than the controller's patience.
    pub(crate) fn allow(&self, kind: Kind) -> bool {
        let weary = self.agents.keys().filter(|agent| self.of(agent) > MOST_DEATHS).count();
        if kind.ends_all_agents() {
            return weary == 0;
        }
        match kind.hits() {
            Hits::None => true,
            // Of those who may die one after the other is chosen.
            Hits::One => weary < self.agents.len(),
            Hits::Some => weary == 0,
        }
    }
}
