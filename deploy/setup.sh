#!/bin/sh
# Puts in place what this project needs and is not there yet: Redis and a C
# compiler from Debian's packages, sysg built by cargo into .tools/. Changes
# nothing where all is there, so it can run before every other target.
#
#   setup.sh             what building, running and testing need
#   setup.sh cargo-deny  and the dependency checker, for CI
#   setup.sh cargo-fuzz  and the fuzzer, with a C++ compiler, for make fuzz
#   setup.sh prometheus  and Prometheus with promtool, for the tests
#   setup.sh node        and Node.js with npm, for llm-clis.sh and peers.sh
#   setup.sh python      and Python with venv, for peers.sh
set -eu
cd "$(dirname "$0")/.."

sysg_version=0.69.2
cargo_deny_version=0.20.0
cargo_fuzz_version=0.13.2
oldest_node=18
PATH="$PWD/.tools/bin:$PATH"

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" > /dev/null 2>&1; }
node_will_do() {
    major=$(node --version 2> /dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
    [ "${major:-0}" -ge "$oldest_node" ]
}

# Debian splits off what a new environment gets its pip from; `import venv` works without.
python_will_do() { python3 -c 'import ensurepip, venv' 2> /dev/null; }

# Installs $@ from Debian, as root, without letting the packages start services:
# the project runs its own Redis, and a second one would take its port.
# shellcheck disable=SC2016 # the shell that it is given to expands it
install_packages='
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap "rm -f $policy" EXIT
        trap "exit 1" INT TERM HUP
        printf "#!/bin/sh\nexit 101\n" > $policy
        chmod 755 $policy
    fi
    apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
'

packages=
have redis-server || packages="$packages redis-server"
have redis-cli || packages="$packages redis-tools"
have cc || packages="$packages gcc libc6-dev"
for tool in "$@"; do
    case $tool in
    cargo-deny) ;;
    cargo-fuzz) have c++ || packages="$packages g++" ;;
    prometheus) { have prometheus && have promtool; } || packages="$packages prometheus" ;;
    node) { node_will_do && have npm; } || packages="$packages nodejs npm" ;;
    python) python_will_do || packages="$packages python3 python3-venv" ;;
    *) fail "unknown tool \"$tool\": only cargo-deny, cargo-fuzz, node, prometheus and python can be asked for" ;;
    esac
done
if [ -n "$packages" ]; then
    packages=${packages# }
    by_hand="install $packages yourself, then run this again"
    have apt-get || fail "missing here: $packages" "there is no apt-get on this system: $by_hand"
    say "installing $packages"
    # shellcheck disable=SC2086 # one word for each package is meant
    if [ "$(id -u)" = 0 ]; then
        sh -c "$install_packages" sh $packages < /dev/null || fail "apt-get failed: $by_hand"
    elif ! have sudo; then
        fail "missing here: $packages" "this needs root, and there is no sudo: $by_hand"
    elif [ -t 0 ]; then
        sudo sh -c "$install_packages" sh $packages || fail "apt-get by sudo failed: $by_hand"
    else
        sudo -n sh -c "$install_packages" sh $packages < /dev/null ||
            fail "missing here: $packages" "sudo wants a password and there is no terminal: $by_hand"
    fi
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
have cargo || fail "cargo is missing: install Rust $wanted or newer with rustup (https://rustup.rs)," \
    "then open a new shell and run this again"
version=$(cargo --version | cut -d ' ' -f 2)
oldest=$(printf '%s\n%s\n' "$wanted" "$version" | sort -V | head -n 1)
[ "$oldest" = "$wanted" ] || fail "Rust $version is too old: this project needs $wanted; run \`rustup update stable\`"

# cargo_tool CRATE VERSION COMMAND: where COMMAND does not say VERSION already.
cargo_tool() {
    if [ "$($3 --version 2> /dev/null)" = "$1 $2" ]; then return; fi
    say "building $1 $2 into .tools (a few minutes, once)"
    cargo install "$1" --version "$2" --locked --ignore-rust-version --root .tools --force < /dev/null ||
        fail "cargo could not install $1 $2: see its message above"
}

cargo_tool systemg $sysg_version sysg
for tool in "$@"; do
    case $tool in
    cargo-deny) cargo_tool cargo-deny $cargo_deny_version cargo-deny ;;
    cargo-fuzz) cargo_tool cargo-fuzz $cargo_fuzz_version cargo-fuzz ;;
    node) node_will_do || fail "the first node in PATH is not Node.js $oldest_node or newer: install that," \
        "or put it first in PATH, then run this again" ;;
    python) python_will_do || fail "the first python3 in PATH has no venv with ensurepip: install that," \
        "or put one that has first in PATH, then run this again" ;;
    esac
done
