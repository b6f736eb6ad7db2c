#!/bin/sh
# Puts the systems that the benchmarks compare orch with into .tools/peers: BullMQ, as
# benches/peers/package-lock.json pins it, and Celery and porki in a Python environment of
# their own (venv), as benches/peers/requirements.txt pins them. Only `make bench-peers` needs
# them. Changes nothing where they are there already.
#
# The npm packages' install scripts are not run: all that they would do is compile what comes
# compiled. Its packages for other platforms than Linux on x64 and arm64 are pinned by version
# only, since nobody has seen their hashes. pip installs what is listed and no dependency of it:
# the list says what is left out.
set -eu
cd "$(dirname "$0")/.."

root=$PWD/.tools/peers
pins=benches/peers
installed=$root/installed
# What both Celery 5.7 and porki 0.7 ask for.
oldest_python=3.10

say() { printf 'peers: %s\n' "$*"; }
fail() {
    printf 'peers: %s\n' "$@" >&2
    exit 1
}

# All that decides what is installed.
pinned() { cat $pins/package.json $pins/package-lock.json $pins/requirements.txt; }

# The versions that are pinned, as they are shown.
bullmq=$(sed -n 's|^ *"bullmq": "\([0-9.]*\)",\{0,1\}$|\1|p' $pins/package.json)
celery=$(sed -n 's|^celery==\([0-9.]*\).*|\1|p' $pins/requirements.txt)
porki=$(sed -n 's|^porki==\([0-9.]*\).*|\1|p' $pins/requirements.txt)
peers="BullMQ $bullmq, Celery $celery and porki $porki"

# Do they load? A Python environment does not outlive the Python that made it.
bullmq_loads() { node -e "require('$root/node_modules/bullmq'); require('$root/node_modules/ioredis')"; }
python_loads() { "$root/venv/bin/python" -c 'import celery, redis, porki.runtime'; }

if pinned | cmp -s - "$installed" && bullmq_loads 2> /dev/null && python_loads 2> /dev/null; then
    say "$peers are there"
    exit 0
fi

sh deploy/setup.sh node python
wanted=$(printf '%s' "$oldest_python" | tr . ,)
python3 -c "import sys; sys.exit(sys.version_info < ($wanted))" ||
    fail "$(python3 --version) is too old for them: put Python $oldest_python or newer first in PATH"

mkdir -p "$root"
rm -f "$installed"
say "installing $peers into .tools/peers (80 MB, once)"
cp $pins/package.json $pins/package-lock.json "$root"
# An unreachable registry is to be told in a minute, not in ten.
npm ci --prefix "$root" --ignore-scripts --no-audit --no-fund --no-progress --loglevel error \
    --fetch-retries 2 --fetch-retry-mintimeout 2000 --fetch-retry-maxtimeout 10000 \
    > /dev/null < /dev/null ||
    fail "npm could not install BullMQ: see its message above; is its registry within reach?" \
        "(only make bench-peers needs it)"

python3 -m venv --clear "$root/venv" < /dev/null > /dev/null ||
    fail "python3 could not make an environment in $root/venv: see its message above"
"$root/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --no-deps --only-binary :all: --require-hashes --retries 2 -r $pins/requirements.txt < /dev/null ||
    fail "pip could not install Celery and porki: see its message above; is its registry within reach?" \
        "(only make bench-peers needs them)"

bullmq_loads || fail "BullMQ is installed in $root, but does not load here: see node's message above"
python_loads || fail "Celery and porki are installed in $root/venv, but do not load here: see Python's message above"
pinned > "$installed"
say "installed $peers"
