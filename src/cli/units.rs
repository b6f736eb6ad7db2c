//! Money, tokens and times of day as people read them. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// One US dollar.
const MICROS: u64 = 1_000_000;
/// One cent.
const CENT: u64 = MICROS / 100;

/// Millionths of a US dollar: whole cents as `$5.12`, anything else as `$0.0423`.
pub(crate) fn usd(micros: u64) -> String {
    let dollars = dollars(micros);
    if micros.is_multiple_of(CENT) { format!("${dollars:.2}") } else { format!("${dollars:.4}") }
}

/// The same as a number, for JSON.
pub(crate) fn dollars(micros: u64) -> f64 {
    micros as f64 / MICROS as f64
}

/// What is known of a cost, `?` for what is not: `$0.42`, `$0.42 + ?`, `?`.
pub(crate) fn priced(micros: u64, calls: u64, unpriced_calls: u64) -> String {
    match (micros, unpriced_calls) {
        (0, unpriced) if unpriced > 0 && unpriced >= calls => "?".to_owned(),
        (_, 0) => usd(micros),
        (_, _) => format!("{} + ?", usd(micros)),
    }
}

/// A number of tokens: `950`, `12.3k`, `4.5M`.
pub(crate) fn tokens(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..999_950 => format!("{:.1}k", n as f64 / 1e3),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

/// How long a wait is, to the minute where it is long: `45 s`, `2 h 10 min`, `3 d 4 h`.
pub(crate) fn wait(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 120 {
        return format!("{seconds} s");
    }
    let minutes = (seconds + 30) / 60;
    let (hours, days) = (minutes / 60, minutes / 1_440);
    match (days, hours, minutes) {
        (0, 0 | 1, 0..120) => format!("{minutes} min"),
        (0 | 1, 0..48, _) => with_rest(hours, "h", minutes % 60, "min"),
        (_, _, _) => with_rest(days, "d", hours % 24, "h"),
    }
}

fn with_rest(n: u64, unit: &str, rest: u64, lesser: &str) -> String {
    if rest == 0 { format!("{n} {unit}") } else { format!("{n} {unit} {rest} {lesser}") }
}

/// A time of day in `zone`, with the date where it is not today's: `14:30`,
/// `Thu 19 Mar 14:30`.
pub(crate) fn clock(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if at.date() == now.date() {
        "%H:%M"
    } else if at.year() == now.year() {
        "%a %-d %b %H:%M"
    } else {
        "%-d %b %Y %H:%M"
    };
    at.strftime(form).to_string()
}

/// When something ends: `until 14:30 (in 2 h 10 min)`.
pub(crate) fn until(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    format!("until {} (in {})", clock(at, now, zone), wait(left))
}

/// Microseconds since the epoch, as the store has them.
pub(crate) fn time(micros: u64) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
}

/// A time as a person or a script wrote it; UTC where it names no zone.
pub(crate) fn written(text: &str) -> Option<Timestamp> {
    let in_utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    text.parse().ok().or_else(|| in_utc().map(|zoned| zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn money_should_keep_cents_and_fractions_of_them() {
        let shown: Vec<String> = [0, 50_000, 42_300, 5_120_000, 1].into_iter().map(usd).collect();
        assert_eq!(shown, ["$0.00", "$0.05", "$0.0423", "$5.12", "$0.0000"]);
        assert_eq!(dollars(423_100).to_string(), "0.4231");
    }

    #[test]
    fn cost_that_is_not_known_should_not_look_like_none() {
        assert_eq!(priced(0, 3, 3), "?");
        assert_eq!(priced(420_000, 3, 1), "$0.42 + ?");
        assert_eq!(priced(0, 3, 1), "$0.00 + ?");
        assert_eq!(priced(0, 3, 0), "$0.00");
        assert_eq!(priced(0, 0, 0), "$0.00");
    }

    #[test]
    fn tokens_should_be_short() {
        let shown: Vec<String> =
            [0, 999, 1_000, 12_345, 999_949, 999_950, 4_500_000].into_iter().map(tokens).collect();
        assert_eq!(shown, ["0", "999", "1.0k", "12.3k", "999.9k", "1.0M", "4.5M"]);
    }

    #[test]
    fn wait_should_be_said_to_the_minute() {
        let shown: Vec<String> = [0, 45, 119, 120, 7_170, 7_800, 7_200, 86_400, 172_800, 273_600]
            .into_iter()
            .map(|seconds| wait(Duration::from_secs(seconds)))
            .collect();
        let expected =
            ["0 s", "45 s", "119 s", "2 min", "2 h", "2 h 10 min", "2 h", "24 h", "2 d", "3 d 4 h"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn end_should_be_local_and_name_the_day_where_it_is_another() {
        let now = at("2026-03-18T12:20:00Z");
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(until(at("2026-03-18T14:30:00Z"), now, &zone), "until 15:30 (in 2 h 10 min)");
        assert_eq!(clock(at("2026-03-18T23:30:00Z"), now, &zone), "Thu 19 Mar 00:30");
        assert_eq!(clock(at("2027-01-02T03:04:00Z"), now, &zone), "2 Jan 2027 04:04");
        assert_eq!(until(at("2026-03-18T12:00:00Z"), now, &TimeZone::UTC), "until 12:00 (in 0 s)");
    }

    #[test]
    fn time_that_somebody_wrote_should_be_utc_unless_it_says_otherwise() {
        for text in ["2026-03-18T14:30:00Z", "2026-03-18 14:30:00", "2026-03-18T15:30:00+01:00"] {
            assert_eq!(written(text), Some(at("2026-03-18T14:30:00Z")), "{text}");
        }
        assert_eq!(written("tomorrow"), None);
        assert_eq!(time(1_773_844_200_000_000), Some(at("2026-03-18T14:30:00Z")));
    }
}
