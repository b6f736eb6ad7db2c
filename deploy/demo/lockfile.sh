#!/bin/sh
# The lock file and the tools in use -> toolchain.tsv: what, value.
. "$(dirname "$0")/lib.sh"

lock="$ORCH_PROJECT/Cargo.lock"
packages=$(grep -c '^\[\[package\]\]' "$lock")
outside=$(grep -c '^source = ' "$lock" || true)
checked=$(grep -c '^checksum = ' "$lock" || true)
{
    printf 'Packages in the lock file\t%s\n' "$packages"
    printf 'of them from outside\t%s\n' "$outside"
    printf 'with a checksum\t%s\n' "$checked"
    printf 'Size of the lock file\t%s KiB\n' "$(($(wc -c < "$lock") / 1024))"
    sed -n 's/^version = \([0-9]*\)$/Lock file format\t\1/p' "$lock"
    sed -n 's/^edition = "\(.*\)"$/Edition\t\1/p' "$ORCH_PROJECT/Cargo.toml" | head -n 1
    sed -n 's/^rust-version = "\(.*\)"$/Oldest Rust that is promised\t\1/p' "$ORCH_PROJECT/Cargo.toml" | head -n 1
    printf 'Rust in use\t%s\n' "$(rustc --version | cut -d ' ' -f 2)"
} > "$scratch/toolchain.tsv"
put toolchain.tsv < "$scratch/toolchain.tsv"
cat toolchain.tsv
