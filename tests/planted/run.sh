#!/bin/sh
# Plants each bug of this folder into a copy of the sources and sees who finds it.
#   sh tests/planted/run.sh [NAME..]     all where none is named
# SIM_SEEDS (1000) and CASES (256; 0 leaves the sequences out) say how long is looked. Prints one line for each bug;
# fails where one is found by nobody, or not by the simulator.
#
# A patch begins with what it does and with the name under which the model
# (crates/model/tests/protocol) has that bug planted itself: the model does not read these
# sources, and its own test fails where it misses one of its bugs.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$root/target/planted
seeds=${SIM_SEEDS:-1000}
cases=${CASES:-256}
log=$copy.log
# The copy is another place, but the crates of others are built once.
export CARGO_TARGET_DIR="$root/target"

# Only what differs is written, so that only what differs is built.
refresh() {
    mkdir -p "$copy"
    cd "$root"
    git ls-files -co --exclude-standard | while IFS= read -r file; do
        [ -f "$file" ] || continue
        cmp -s "$file" "$copy/$file" && continue
        mkdir -p "$copy/$(dirname "$file")"
        cp "$file" "$copy/$file"
    done
}

# The number of the first seed that fails; nothing where none does.
simulator() {
    SEEDS=$seeds FIRST=1 SEED= FAILURES=1 cargo test --profile sim --locked -q -p sim --test sim \
        promises -- --nocapture > "$log" 2>&1 || true
    if grep -q '^seeds  ' "$log"; then
        sed -n 's/^seed \([0-9]*\) breaks.*/\1/p' "$log" | sort -n | head -n 1
    else
        echo "broken"
    fi
}

# After how many cases the sequences fail. They see the store and nothing else.
sequences() {
    { [ "$cases" -gt 0 ] && grep -q '^+++ b/crates/store/' "$patch"; } || return 0
    if PROPTEST_CASES=$cases cargo test --locked -q -p store --test redis model:: > "$log" 2>&1; then
        return
    fi
    found=$(sed -n 's/.*successes: \([0-9]*\).*/\1/p' "$log" | sort -n | head -n 1)
    if [ -n "$found" ]; then echo $((found + 1)); else echo "1"; fi
}

refresh
cd "$copy"
[ $# -gt 0 ] || set -- $(cd "$root/tests/planted" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
printf '%-30s | %-24s | %-16s | %s\n' bug "model, as" "sequences, case" "simulator, seed"
missed=0
for name in "$@"; do
    patch=$root/tests/planted/$name.patch
    # Outside of any repository: `git apply` would else look for the files in ours.
    GIT_CEILING_DIRECTORIES=$root/target git apply "$patch"
    model=$(sed -n 's/^Model: //p' "$patch")
    of_simulator=$(simulator)
    of_sequences=$(sequences)
    GIT_CEILING_DIRECTORIES=$root/target git apply -R "$patch"
    printf '%-30s | %-24s | %-16s | %s\n' "$name" "$model" "${of_sequences:--}" "${of_simulator:--}"
    case $of_simulator in
        '') missed=$((missed + 1)) ;;
        broken) echo "$name: the simulator did not run: see $log" >&2; exit 1 ;;
    esac
done
if [ $missed -gt 0 ]; then
    echo "$missed of $# are not found by the simulator" >&2
    exit 1
fi
