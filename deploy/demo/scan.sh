#!/bin/sh
# Reads every Rust file of the project once -> source.tsv, one line for each line
# of source: crate, file, line, kind (code, comment, doc, blank), test (0 or 1),
# code without comments and with empty strings, comment. The counting tasks read
# this instead of parsing Rust seven times.
. "$(dirname "$0")/lib.sh"

project_files > "$scratch/files"
grep '\.rs$' "$scratch/files" > "$scratch/rust"
awk -v project="$ORCH_PROJECT" -f "$demo/scan.awk" crates.tsv "$scratch/rust" > "$scratch/source.tsv"
put source.tsv < "$scratch/source.tsv"
echo "$(wc -l < source.tsv) lines in $(wc -l < "$scratch/rust") files"
