//! What a span is, in the terms of OpenTelemetry.

use std::fmt;

/// Names a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Names a span within its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// A span, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In which trace.
    pub trace: TraceId,
    /// Which of that.
    pub span: SpanId,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// Whose doing a span is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The orchestrator's.
    Orchestrator,
    /// That of the agent of this name.
    Agent(String),
}

impl Service {
    /// `service.name`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Agent(_) => "agent",
        }
    }
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Texts.
    List(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// How a span ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Status {
    /// Neither well nor badly, as one that was handed back; or it is not over.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Badly, and why.
    Error(String),
}

/// A span of another trace that has to do with this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which.
    pub to: Place,
    /// What it is to this one: `goal`, `dependency`, `recovery`.
    pub kind: &'static str,
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// In microseconds since the epoch.
    pub at_us: u64,
    /// What.
    pub text: String,
}

/// One span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its ids.
    pub place: Place,
    /// The span that it is a part of; none for the root of its trace.
    pub parent: Option<SpanId>,
    /// What is done, of few words: `attempt`, `wait`, `chat <model>`, ..
    pub name: String,
    /// Who does it.
    pub service: Service,
    /// In microseconds since the epoch.
    pub start_us: u64,
    /// In microseconds since the epoch, not before the start; none while it goes on.
    pub end_us: Option<u64>,
    /// Names and values; a name stands there once.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces.
    pub links: Vec<Link>,
    /// What happened meanwhile, in order.
    pub notes: Vec<Note>,
    /// How it ended.
    pub status: Status,
}

impl Span {
    pub(crate) fn root(place: Place, name: &str, service: Service, start_us: u64) -> Self {
        Self {
            place,
            parent: None,
            name: name.to_owned(),
            service,
            start_us,
            end_us: None,
            attributes: Vec::new(),
            links: Vec::new(),
            notes: Vec::new(),
            status: Status::Unset,
        }
    }

    /// A part of this one, which `key` tells from its other parts.
    pub(crate) fn part(&self, name: &str, key: &str, start_us: u64) -> Self {
        let span = crate::ids::part(&self.place, key);
        let place = Place { span, ..self.place };
        let parent = Some(self.place.span);
        Self { parent, ..Self::root(place, name, self.service.clone(), start_us) }
    }

    /// Adds an attribute, unless it says nothing.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, text: &str) -> Self {
        if !text.is_empty() {
            self.attributes.push((name, Value::from(text)));
        }
        self
    }

    /// Adds a number that an event holds as text, unless there is none.
    #[must_use]
    pub(crate) fn with_number(mut self, name: &'static str, text: &str) -> Self {
        if let Ok(number) = text.parse() {
            self.attributes.push((name, Value::Int(number)));
        }
        self
    }

    /// Ends it, never before it began: Redis' clock may have gone back meanwhile.
    pub(crate) fn end(&mut self, at_us: u64, status: Status) {
        self.end_us = Some(at_us.max(self.start_us));
        self.status = status;
    }

    pub(crate) fn ended(mut self, at_us: u64, status: Status) -> Self {
        self.end(at_us, status);
        self
    }

    pub(crate) fn note(&mut self, at_us: u64, text: impl Into<String>) {
        self.notes.push(Note { at_us, text: text.into() });
    }

    /// An attribute's text; '' where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        match found {
            Some((_, Value::Text(text))) => text,
            Some((_, Value::Int(_) | Value::List(_))) | None => "",
        }
    }

    /// An attribute's whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        match found {
            Some((_, Value::Int(number))) => Some(*number),
            Some((_, Value::Text(_) | Value::List(_))) | None => None,
        }
    }
}
