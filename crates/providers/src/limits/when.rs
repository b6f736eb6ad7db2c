//! The time at which a limit is reset, as programs put it into words.
//!
//! A message is searched for words that announce such a time (`resets`, `try again`); of
//! what follows, the first that can be read as a time is taken: a number of seconds since
//! 1970, a while (`in 2 hours 5 minutes`, `6m0s`), or a date, a weekday and a time of day
//! in any order that occurs (`Oct 9, 10am`, `Mon 9am`, `2026-04-01 at 00:00 UTC`).

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use super::is_ahead;

/// What announces a time. Longer ones first where one begins with the other.
const ANNOUNCES: &[&str] = &[
    "limit reached|",
    "reset",
    "try again",
    "regain access",
    "retry",
    "available",
    "wait",
    "until",
];

/// Words between that and the time; with `in` a plain number means seconds.
const FILLERS: &[&str] = &[
    "s", "ting", "again", "after", "access", "on", "at", "in", "for", "your", "limit", "will",
    "be", "is", "the", "seconds", "about", "until", "and",
];

/// How many words after an announcement are read.
const MOST_WORDS: usize = 24;
/// A plain number from here on is a time, in seconds since 1970 (2001 and later).
const LEAST_EPOCH: i64 = 1_000_000_000;
/// A plain number from here on is one in milliseconds.
const LEAST_EPOCH_MILLIS: i64 = 1_000_000_000_000;
/// A time of day that has passed by less is the reset itself, of which the service does
/// not know yet, and not the one of tomorrow.
const JUST_PASSED: SignedDuration = SignedDuration::from_mins(5);
/// A date without a year that is further away has passed already.
const LONGEST_WITHOUT_YEAR: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The reset time in `text`, which is lowercase with single blanks; only one that lies
/// ahead, by a year at most.
pub(super) fn reset(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    ANNOUNCES
        .iter()
        .flat_map(|word| text.match_indices(word).map(|(at, _)| at + word.len()))
        .filter_map(|at| read(&words(&text[at..]), now, zone))
        .find(|until| is_ahead(*until, now))
}

/// One word, number or sign.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// The digits, as they stand.
    Number(&'a str),
    Sign(char),
}

fn words(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if tokens.len() == MOST_WORDS {
            break;
        }
        let of = |test: fn(char) -> bool| rest.find(|char| !test(char)).unwrap_or(rest.len());
        let length = if first.is_ascii_digit() {
            let length = of(|char| char.is_ascii_digit());
            tokens.push(Token::Number(&rest[..length]));
            length
        } else if first.is_alphabetic() {
            let length = of(char::is_alphabetic);
            tokens.push(Token::Word(&rest[..length]));
            length
        } else {
            if first != ' ' {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn read(tokens: &[Token<'_>], now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut rest = tokens;
    let mut seconds = false;
    loop {
        match rest {
            [Token::Word(word), after @ ..] if FILLERS.contains(word) => {
                seconds |= matches!(*word, "in" | "after" | "seconds");
                rest = after;
            }
            [Token::Sign(':' | '"' | '=' | '-' | '_' | '|' | '\'' | '('), after @ ..] => {
                rest = after
            }
            _ => break,
        }
    }
    let [Token::Number(_) | Token::Word(_), ..] = rest else {
        return None;
    };
    if let Some(length) = length(rest) {
        return now.checked_add(length).ok();
    }
    let number = match rest {
        [Token::Number(digits), ..] => digits.parse::<i64>().ok(),
        _ => None,
    };
    match number {
        Some(millis @ LEAST_EPOCH_MILLIS..) => Timestamp::from_millisecond(millis).ok(),
        Some(seconds @ LEAST_EPOCH..) => Timestamp::from_second(seconds).ok(),
        _ => Calendar::read(rest).and_then(|calendar| calendar.next(now, zone)).or_else(|| {
            let number = number.filter(|_| seconds)?;
            now.checked_add(SignedDuration::from_secs(number)).ok()
        }),
    }
}

/// `3 days 4 hours 12 minutes`, `1.898s`, `6m0s`, `2 hours and 5 minutes`.
fn length(tokens: &[Token<'_>]) -> Option<SignedDuration> {
    let mut total = SignedDuration::ZERO;
    let mut rest = tokens;
    let mut any = false;
    loop {
        let (number, fraction, after) = match rest {
            [Token::Number(number), Token::Sign('.'), Token::Number(fraction), after @ ..] => {
                (*number, *fraction, after)
            }
            [Token::Number(number), after @ ..] => (*number, "0", after),
            _ => break,
        };
        let [Token::Word(unit), after @ ..] = after else {
            break;
        };
        let Some(millis) = millis_of(unit) else {
            break;
        };
        let count = format!("{number}.{fraction}").parse::<f64>().ok()?;
        let part = SignedDuration::try_from_secs_f64(count * millis / 1e3).ok()?;
        total = total.checked_add(part)?;
        any = true;
        rest = match after {
            [Token::Sign(','), Token::Word("and"), after @ ..]
            | [Token::Sign(',') | Token::Word("and"), after @ ..] => after,
            _ => after,
        };
    }
    any.then_some(total)
}

fn millis_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600e3,
        "d" | "day" | "days" => 86_400e3,
        "w" | "wk" | "week" | "weeks" => 604_800e3,
        _ => return None,
    })
}

/// What a message says of a point in time.
#[derive(Debug, Default)]
struct Calendar {
    year: Option<i16>,
    /// Month and day.
    day: Option<(i8, i8)>,
    weekday: Option<Weekday>,
    /// Days from today.
    ahead: Option<i64>,
    time: Option<Time>,
    zone: Option<TimeZone>,
}

impl Calendar {
    fn read(tokens: &[Token<'_>]) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = tokens;
        while !rest.is_empty() {
            rest = found.take(rest)?;
        }
        Some(found)
    }

    /// Reads one part; at the first thing that is none, reading is over.
    fn take<'t, 'a>(&mut self, tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
        const END: &[Token<'static>] = &[];
        let free = self.day.is_none() && self.weekday.is_none() && self.ahead.is_none();
        match tokens {
            [
                Token::Number(year),
                Token::Sign('-'),
                Token::Number(month),
                Token::Sign('-'),
                Token::Number(day),
                rest @ ..,
            ] if free && year.len() == 4 => {
                self.year = Some(year.parse().ok()?);
                self.day = Some((month.parse().ok()?, day.parse().ok()?));
                Some(rest)
            }
            // Oct 9, oct. 9th
            [Token::Word(month), Token::Sign('.'), Token::Number(day), rest @ ..]
            | [Token::Word(month), Token::Number(day), rest @ ..]
                if free && day.len() <= 2 && month_of(month).is_some() =>
            {
                self.day = Some((month_of(month)?, day.parse().ok()?));
                Some(without_ordinal(rest))
            }
            // 9 Oct, 9th of October
            [
                Token::Number(day),
                Token::Word("st" | "nd" | "rd" | "th" | "de"),
                Token::Word(month),
                rest @ ..,
            ]
            | [Token::Number(day), Token::Word(month), rest @ ..]
                if free && day.len() <= 2 && month_of(month).is_some() =>
            {
                self.day = Some((month_of(month)?, day.parse().ok()?));
                Some(rest)
            }
            [Token::Number(year), rest @ ..]
                if self.year.is_none() && year.len() == 4 && self.day.is_some() =>
            {
                self.year = Some(year.parse().ok()?);
                Some(rest)
            }
            [Token::Number(_), ..] if self.time.is_none() => {
                let Some((time, rest)) = time_of(tokens) else {
                    return Some(END);
                };
                self.time = Some(time);
                Some(rest)
            }
            [Token::Word("tomorrow"), rest @ ..] if free => {
                self.ahead = Some(1);
                Some(rest)
            }
            [Token::Word("today"), rest @ ..] if free => {
                self.ahead = Some(0);
                Some(rest)
            }
            [Token::Word("t" | "at" | "on" | "de"), rest @ ..] => Some(rest),
            [Token::Word("z" | "utc" | "gmt"), ..] if self.time.is_some() => {
                self.zone = Some(TimeZone::UTC);
                Some(END)
            }
            [Token::Word(day), rest @ ..] if free && weekday_of(day).is_some() => {
                self.weekday = weekday_of(day);
                Some(rest)
            }
            [Token::Sign(',' | '.'), rest @ ..] => Some(rest),
            [Token::Sign('('), rest @ ..] => {
                self.zone = zone_of(rest);
                Some(END)
            }
            _ => Some(END),
        }
    }

    /// The next time that this means, after `now`.
    fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        let today = now.to_zoned(zone.clone()).date();
        let time = self.time.unwrap_or(Time::midnight());
        let at = |date: Date| zone.to_timestamp(DateTime::from_parts(date, time)).ok();
        let ahead = |date: Date, span: Span| date.checked_add(span).ok().and_then(at);
        match (self.day, self.weekday, self.ahead) {
            (Some((month, day)), _, _) => {
                if let Some(year) = self.year {
                    return at(Date::new(year, month, day).ok()?);
                }
                let years = [today.year(), today.year().checked_add(1)?];
                let mut times =
                    years.iter().filter_map(|year| at(Date::new(*year, month, day).ok()?));
                times
                    .find(|until| *until > now && until.duration_since(now) <= LONGEST_WITHOUT_YEAR)
            }
            (None, Some(weekday), _) => {
                let days = i64::from(today.weekday().until(weekday));
                let first = ahead(today, Span::new().days(days))?;
                if first > now { Some(first) } else { ahead(today, Span::new().days(days + 7)) }
            }
            (None, None, Some(days)) => ahead(today, Span::new().days(days)),
            (None, None, None) => {
                self.time?;
                let first = at(today)?;
                if now.duration_since(first) < JUST_PASSED {
                    return Some(first);
                }
                ahead(today, Span::new().days(1))
            }
        }
    }
}

/// `3pm`, `3:45 pm`, `11:30`, `00:00:00`, `9 a.m.`, and what follows it.
fn time_of<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Time, &'t [Token<'a>])> {
    let [Token::Number(hour), rest @ ..] = tokens else {
        return None;
    };
    let mut rest = rest;
    let mut hour = hour.parse::<i8>().ok()?;
    let (mut minute, mut second, mut exact) = (0, 0, false);
    if let [Token::Sign(':'), Token::Number(minutes), after @ ..] = rest {
        (minute, exact, rest) = (minutes.parse().ok()?, true, after);
        if let [Token::Sign(':'), Token::Number(seconds), after @ ..] = rest {
            (second, rest) = (seconds.parse().ok()?, after);
            if let [Token::Sign('.'), Token::Number(_), after @ ..] = rest {
                rest = after;
            }
        }
    }
    let (half, after) = match rest {
        [Token::Word(word @ ("am" | "pm")), after @ ..] => (Some(*word), after),
        [Token::Word("a"), Token::Sign('.'), Token::Word("m"), after @ ..] => (Some("am"), after),
        [Token::Word("p"), Token::Sign('.'), Token::Word("m"), after @ ..] => (Some("pm"), after),
        _ => (None, rest),
    };
    if let Some(half) = half {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if half == "pm" { 12 } else { 0 };
    } else if !exact {
        // A bare number may mean anything.
        return None;
    }
    Some((Time::new(hour, minute, second, 0).ok()?, after))
}

fn without_ordinal<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    match tokens {
        [Token::Word("st" | "nd" | "rd" | "th"), rest @ ..] => rest,
        _ => tokens,
    }
}

/// A zone's name up to the closing parenthesis; one that is unknown is none.
fn zone_of(tokens: &[Token<'_>]) -> Option<TimeZone> {
    let mut name = String::new();
    for token in tokens {
        match token {
            Token::Word(part) | Token::Number(part) => name.push_str(part),
            Token::Sign(')') => break,
            Token::Sign(sign) => name.push(*sign),
        }
    }
    // Names are found whatever their case.
    TimeZone::get(&name).ok()
}

fn month_of(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let place = MONTHS.iter().position(|month| is_short_for(month, word))?;
    i8::try_from(place + 1).ok()
}

fn weekday_of(word: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    DAYS.iter().find(|(day, _)| is_short_for(day, word)).map(|(_, day)| *day)
}

/// Whether `word` is `short` or an English name that begins so.
fn is_short_for(short: &str, word: &str) -> bool {
    const ENDS: &[&str] = &[
        "", "uary", "ruary", "ch", "il", "e", "y", "ust", "t", "tember", "ober", "ember", "day",
        "s", "sday", "nesday", "rs", "rsday", "urday",
    ];
    word.strip_prefix(short).is_some_and(|end| ENDS.contains(&end))
}
