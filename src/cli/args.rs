//! What several verbs take: global options, output format, waits.

use std::path::PathBuf;
use std::time::Duration;

use crate::settings::Color;

/// Longer waits than this are taken for a slip.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Options that every verb takes, before or after its name.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Where Redis is: redis://, rediss:// (TLS) or unix:/path [env: REDIS_URL] [default: redis://127.0.0.1:6379]
    ///
    /// With user, password and database number: redis://user:password@host:port/db,
    /// unix:/path?user=U&pass=P&db=N. An argument shows in `ps`: with a password use
    /// --redis-url-file, REDIS_URL, or REDIS_URL in the project's .env file.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "redis_url_file")]
    pub(crate) redis_url: Option<String>,

    /// A file that holds the URL, readable by nobody else (chmod 600) [env: ORCH_REDIS_URL_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) redis_url_file: Option<PathBuf>,

    /// Certificate authority (PEM) to trust for rediss:// instead of the usual ones
    #[arg(long, global = true, value_name = "FILE", env = "ORCH_REDIS_CA", hide_env_values = true)]
    pub(crate) redis_ca: Option<PathBuf>,

    /// The project's folder [default: that of INSTRUCTIONS.md, else the current one]
    ///
    /// Its .env file is read first; variables that are set already win.
    #[arg(long, global = true, value_name = "DIR", env = "ORCH_PROJECT", hide_env_values = true)]
    pub(crate) project: Option<PathBuf>,

    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        env = "ORCH_COLOR",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub(crate) color: Color,
}

/// How a verb answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs; documented in docs/cli.md and stable
    Json,
}

/// `--format`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Output {
    /// How to answer
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: Format,
}

impl Output {
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// A wait that may be nothing: `30`, `0.5`, `500ms`, `5s`, `2m`, `1h`.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    let expected = "expected seconds (30, 0.5) or a number with a unit (500ms, 5s, 2m, 1h)";
    let number_end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number: f64 = number.parse().map_err(|_| expected.to_owned())?;
    let factor = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(expected.to_owned()),
    };
    let duration = Duration::try_from_secs_f64(number * factor).map_err(|_| expected.to_owned())?;
    if duration > LONGEST {
        return Err("at most 7 days are allowed".to_owned());
    }
    Ok(duration)
}

/// A wait of at least 10 ms: less would be a busy loop.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match wait(text)? {
        duration if duration < Duration::from_millis(10) => {
            Err("at least 10ms are needed".to_owned())
        }
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_should_be_read_in_every_documented_form() {
        for (text, millis) in [
            ("30", 30_000),
            ("0.5", 500),
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
            (".25", 250),
        ] {
            assert_eq!(wait(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "1 week", "NaN", "inf", "1e3", "5s5", "999999999999", "1.2.3"] {
            assert!(wait(text).is_err(), "{text}");
        }
        assert!(interval("0").is_err() && interval("0.001").is_err());
        assert!(interval("0.01").is_ok());
    }
}
