#!/bin/sh
# Plants each bug of this folder and sees who finds it.
#   sh tests/planted/run.sh [NAME..]     all where none is named
# SIM_SEEDS (1000) and CASES (0) say how long is looked: by the simulator, and by the
# sequences against the plain model, which need a build for each bug. Prints one line for
# each bug; fails where the simulator misses one.
#
# A patch begins with what it does and with the name under which the model
# (crates/model/tests/protocol) has that bug planted itself: the model does not read these
# sources, and its own test fails where it misses one of its bugs. Bugs in scripts are planted
# as the simulator loads them; others into a copy of the sources.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$root/target/planted
seeds=${SIM_SEEDS:-1000}
cases=${CASES:-0}
log=$copy.log
mkdir -p "$copy"

# Only what differs is written, so that only what differs is built.
refresh() {
    cd "$root"
    git ls-files -co --exclude-standard | while IFS= read -r file; do
        [ -f "$file" ] || continue
        cmp -s "$file" "$copy/$file" && continue
        mkdir -p "$copy/$(dirname "$file")"
        cp "$file" "$copy/$file"
    done
    cd "$copy"
    # With the copy inside of its own target folder cargo would take one for the other.
    export CARGO_TARGET_DIR="$root/target/planted-build"
}

# Outside of any repository: `git apply` would else look for the files in ours.
plant() { GIT_CEILING_DIRECTORIES=$root/target git apply "$@"; }

is_in_scripts() { ! sed -n 's/^+++ //p' "$1" | grep -qv '\.lua$'; }

# The number of the first seed that fails; nothing where none does.
simulator() {
    PLANT=${1-} SEEDS=$seeds FIRST=1 SEED= FAILURES=1 cargo test --profile sim --locked -q -p sim \
        --test sim promises -- --nocapture > "$log" 2>&1 || true
    if grep -q '^seeds  ' "$log"; then
        sed -n 's/^seed \([0-9]*\) breaks.*/\1/p' "$log" | sort -n | head -n 1
    else
        echo "broken"
    fi
}

# After how many cases the sequences fail, or that they do not. They see the store and nothing
# else.
sequences() {
    { [ "$cases" -gt 0 ] && grep -q '^+++ b/crates/store/' "$1"; } || return 0
    if PROPTEST_CASES=$cases cargo test --locked -q -p store --test redis model:: > "$log" 2>&1; then
        echo ">$cases"
        return
    fi
    found=$(sed -n 's/.*successes: \([0-9]*\).*/\1/p' "$log" | sort -n | head -n 1)
    echo $((${found:-0} + 1))
}

cd "$root/tests/planted"
if [ $# -eq 0 ]; then
    for patch in *.patch; do set -- "$@" "${patch%.patch}"; done
fi
missed=0
printf '%-30s | %-24s | %-15s | %s\n' bug "model, as" "sequences, case" "simulator, seed"
for name in "$@"; do
    patch=$root/tests/planted/$name.patch
    by_sequences=
    if is_in_scripts "$patch"; then
        cd "$root"
        by_simulator=$(simulator "$name")
    fi
    if ! is_in_scripts "$patch" || [ "$cases" -gt 0 ]; then
        # Refreshing takes the bug before this one out again.
        refresh
        plant "$patch"
        by_sequences=$(sequences "$patch")
        is_in_scripts "$patch" || by_simulator=$(simulator)
        unset CARGO_TARGET_DIR
    fi
    model=$(sed -n 's/^Model: //p' "$patch")
    printf '%-30s | %-24s | %-15s | %s\n' "$name" "$model" "${by_sequences:--}" "${by_simulator:--}"
    case $by_simulator in
        '') missed=$((missed + 1)) ;;
        broken) echo "$name: the simulator did not run: see $log" >&2; exit 1 ;;
    esac
done
if [ $missed -gt 0 ]; then
    echo "$missed of $# are not found by the simulator" >&2
    exit 1
fi
