//! Which host this is, as registrations and leaders name it.

/// The host's name. One that cannot be read, or holds what a Redis value of ours may
/// not, is `localhost`: then all processes count as being on one host.
pub(crate) fn name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let fit = |name: &String| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
    };
    name.filter(fit).unwrap_or_else(|| "localhost".to_owned())
}
