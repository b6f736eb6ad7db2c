#!/bin/sh
# The 15 largest files of the project -> largest.tsv: bytes, path.
. "$(dirname "$0")/lib.sh"

project_files > "$scratch/files"
while IFS= read -r file; do
    printf '%s\t%s\n' "$(wc -c < "$ORCH_PROJECT/$file")" "$file"
done < "$scratch/files" > "$scratch/sizes"
sort -t "$tab" -k1,1nr -k2,2 "$scratch/sizes" | head -n 15 | put largest.tsv
head -n 3 largest.tsv
