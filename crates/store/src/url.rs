//! Where Redis is, without ever printing its password.

use std::fmt;
use std::str::FromStr;

use redis::IntoConnectionInfo;

/// A Redis URL: `redis://`, `rediss://` (TLS) or `unix:`, with ACL user, password
/// and database number as redis-rs reads them. Its `Debug` and `Display` leave
/// the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

/// Why a text is not a Redis URL. It never quotes the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a Redis URL ({why}): expected redis://[user[:password]@]host[:port][/db], \
     rediss://.. for TLS, or unix:/path/to/socket[?db=N&user=U&pass=P]"
)]
pub struct UrlError {
    why: &'static str,
}

impl RedisUrl {
    /// The URL as given, password included: for a connection or a protected file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it holds a password.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.redacted() != self.0
    }

    fn redacted(&self) -> String {
        let (scheme, rest) = self.0.split_once(':').unwrap_or(("", &self.0));
        let (base, query) = match rest.split_once('?') {
            Some((base, query)) => (base, Some(query)),
            None => (rest, None),
        };
        let mut text = format!("{scheme}:");
        match base.rsplit_once('@') {
            Some((credentials, host)) => {
                let user = credentials.trim_start_matches('/');
                match user.split_once(':') {
                    Some((user, _)) => text.push_str(&format!("//{user}:***@{host}")),
                    None => text.push_str(&format!("//{user}@{host}")),
                }
            }
            None => text.push_str(base),
        }
        if let Some(query) = query {
            let parts: Vec<&str> = query
                .split('&')
                .map(|part| if part.starts_with("pass=") { "pass=***" } else { part })
                .collect();
            text.push('?');
            text.push_str(&parts.join("&"));
        }
        text
    }
}

impl FromStr for RedisUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError { why: "it contains white space or control characters" });
        }
        match text.split_once(':') {
            Some(("redis" | "rediss" | "unix" | "redis+unix", _)) => {}
            Some(_) | None => return Err(UrlError { why: "the scheme is not one of ours" }),
        }
        match text.into_connection_info() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(UrlError { why: "host, port, path or database cannot be read" }),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_should_never_print_its_password() {
        for url in [
            "redis://:s3cret@localhost:6379/2",
            "rediss://bob:s3cret@localhost/0",
            "redis://bob:s3c@ret@localhost/0",
            "unix:/run/redis.sock?db=1&user=bob&pass=s3cret",
            "unix:///run/redis.sock?pass=s3cret",
        ] {
            let Ok(parsed) = url.parse::<RedisUrl>() else { continue };
            let shown = format!("{parsed} {parsed:?}");
            assert!(!shown.contains("s3c"), "{shown}");
            assert!(parsed.has_secret(), "{url}");
            assert_eq!(parsed.expose(), url);
        }
        let plain = "redis://127.0.0.1:6379/1".parse::<RedisUrl>().unwrap();
        assert_eq!(plain.to_string(), plain.expose());
        assert!(!plain.has_secret());
    }

    #[test]
    fn url_errors_should_not_quote_the_url() {
        for url in ["http://u:s3cret@x", "redis://u:s3cret@host:port", "s3cret", "redis://a b"] {
            let error = url.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("redis://"), "{error}");
        }
    }
}
