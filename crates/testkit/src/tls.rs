//! A certificate authority and a certificate for 127.0.0.1, made by openssl.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A minimal configuration: the system's adds extensions of its own.
const CONFIG: &str = "\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
[server]
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1,DNS:localhost
";

/// Writes `ca.pem`, `server.pem` and `server.key` into `folder`.
pub(crate) fn make_certificates(folder: &Path) {
    // redis-rs chooses no cryptography itself and panics where nobody has; an
    // error here means that the test has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    fs::write(folder.join("openssl.cnf"), CONFIG).expect("a file");
    let common = "req -x509 -config openssl.cnf -nodes -days 2 -newkey ec \
                  -pkeyopt ec_paramgen_curve:prime256v1";
    for special in [
        "-subj /CN=test-authority -extensions ca -keyout ca.key -out ca.pem",
        "-subj /CN=localhost -extensions server -CA ca.pem -CAkey ca.key -keyout server.key \
         -out server.pem",
    ] {
        let args = common.split_whitespace().chain(special.split_whitespace());
        let ran = Command::new("openssl")
            .args(args)
            .current_dir(folder)
            .output()
            .expect("openssl, from Debian's package of this name");
        assert!(ran.status.success(), "openssl: {}", String::from_utf8_lossy(&ran.stderr));
    }
}
