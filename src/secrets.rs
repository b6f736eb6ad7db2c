//! Secrets that we know of, and texts without them.
//!
//! What programs print is quoted in errors, and those reach logs, traces and Redis. The
//! values of variables whose names look secret, and the passwords within addresses, are
//! replaced there by `***`. What a program writes itself, as a task's log or its files, is
//! not ours and stays as it is; a secret that no variable holds is not known.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use store::RedisUrl;

/// Shorter values are left alone: replaced they would hide more than themselves.
const MIN_BYTES: usize = 8;
/// What stands in the place of a secret.
const MASK: &str = "***";
/// Parts of names that look secret, wherever they stand.
const PARTS: [&str; 7] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY"];
/// The same where they are a word of their own: MONKEY is no secret.
const WORDS: [&str; 6] = ["KEY", "KEYS", "PASS", "AUTH", "COOKIE", "HEADERS"];

static KNOWN: RwLock<Secrets> = RwLock::new(Secrets(Vec::new()));

/// Takes note of this process's variables; `.env` is to be read before.
pub(crate) fn learn_variables() {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    variables.for_each(|(name, value)| known.variable(&name, &value));
}

/// Takes note of a password in it.
pub(crate) fn learn_url(url: &RedisUrl) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).url(url.expose());
}

/// `text` without the secrets that we know of.
pub(crate) fn masked(text: String) -> String {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    match known.mask(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => masked,
    }
}

/// Secrets, the longest first, so that one that holds another goes as a whole.
#[derive(Debug, Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn variable(&mut self, name: &str, value: &str) {
        self.url(value);
        if !looks_secret(name) || (value.starts_with('/') && Path::new(value).exists()) {
            return;
        }
        self.add(value);
        value.lines().for_each(|line| self.add(line));
        if name.ends_with("HEADERS") {
            for header in value.split(',').filter_map(|pair| pair.split_once('=')) {
                let decoded = decoded(header.1);
                self.add(header.1);
                self.add(&decoded);
                // Without the word before it, as `Bearer`.
                decoded.split_whitespace().next_back().into_iter().for_each(|last| self.add(last));
            }
        }
    }

    /// The password in an address.
    fn url(&mut self, text: &str) {
        let Some((_, rest)) = text.split_once(':') else { return };
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let in_query = query.split('&').filter_map(|part| part.strip_prefix("pass="));
        let credentials = base.strip_prefix("//").and_then(|base| {
            let (authority, _) = base.split_once('/').unwrap_or((base, ""));
            // From the right: not everybody encodes an `@` within a password.
            authority.rsplit_once('@')?.0.split_once(':')
        });
        for password in credentials.map(|(_, password)| password).into_iter().chain(in_query) {
            self.add(password);
            self.add(&decoded(password));
        }
    }

    fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.len() < MIN_BYTES {
            return;
        }
        let quoted = serde_json::Value::from(secret).to_string();
        for form in [secret, &quoted[1..quoted.len() - 1]] {
            if !self.0.iter().any(|known| known == form) {
                self.0.push(form.to_owned());
            }
        }
        self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), MASK));
            }
        }
        text
    }
}

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_place = ["_FILE", "_PATH", "_DIR", "_SOCK"].iter().any(|end| name.ends_with(end));
    let has_word = || name.split('_').any(|word| WORDS.contains(&word));
    !is_place && (PARTS.iter().any(|part| name.contains(part)) || has_word())
}

/// With `%41` read as `A`; what is no such code stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match after {
            [high, low, ..] if *first == b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high)
                    .zip(digit(*low))
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Secrets {
        let mut secrets = Secrets::default();
        variables.iter().for_each(|(name, value)| secrets.variable(name, value));
        secrets
    }

    #[test]
    fn names_that_look_secret_should_be_told_from_others() {
        for name in [
            "ANTHROPIC_API_KEY",
            "github_token",
            "DB_PASSWORD",
            "REDISCLI_AUTH",
            "AWS_SECRET_ACCESS_KEY",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OPENAIAPIKEY",
            "SSH_KEYS",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "PATH",
            "MONKEY",
            "KEYBOARD",
            "PWD",
            "SSH_AUTH_SOCK",
            "TLS_KEY_FILE",
            "AUTHOR",
            "COMPASS",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn values_should_be_masked_wherever_they_stand() {
        let secrets = with(&[
            ("A_KEY", "abcdefgh"),
            ("B_TOKEN", "abcdefgh-and-more"),
            ("C_PASSWORD", "q\"uote\\d-one"),
            ("PLAIN", "not-a-secret"),
            ("D_KEY", "short"),
            ("E_KEY", "-----BEGIN\nfirst line\nsecond line"),
        ]);
        assert_eq!(secrets.mask("x abcdefgh-and-more, abcdefgh."), "x ***, ***.");
        assert_eq!(secrets.mask(r#"{"a":"q\"uote\\d-one"} q"uote\d-one"#), r#"{"a":"***"} ***"#);
        assert_eq!(secrets.mask("only the second line of it"), "only the *** of it");
        assert!(matches!(secrets.mask("not-a-secret short"), Cow::Borrowed(_)));
    }

    #[test]
    fn passwords_within_addresses_and_headers_should_be_known() {
        let secrets = with(&[
            ("REDIS_URL", "redis://bob:p%40ss-word-1@host:6379/2"),
            ("ANY_PROXY", "http://me:pr@xy-word@host:8080/path"),
            ("SOCKET", "unix:/run/x?db=1&user=u&pass=socket-word"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20bearer-word,x-team=blue"),
        ]);
        for (text, shown) in [
            ("p%40ss-word-1 p@ss-word-1", "*** ***"),
            ("pr@xy-word", "***"),
            ("socket-word of u", "*** of u"),
            ("bearer-word is no authorization", "*** is no authorization"),
            ("host:6379 blue", "host:6379 blue"),
        ] {
            assert_eq!(secrets.mask(text), shown);
        }
    }

    #[test]
    fn path_of_a_file_should_be_no_secret() {
        let secrets = with(&[
            ("GOOGLE_APPLICATION_CREDENTIALS", "/proc/self/status"),
            ("X_KEY", "/not/there="),
        ]);
        assert_eq!(secrets.mask("/proc/self/status /not/there="), "/proc/self/status ***");
    }
}
