#!/bin/sh
# Packages that Cargo.lock holds in more than one version -> duplicates.tsv: name,
# versions. An empty file is the best result.
. "$(dirname "$0")/lib.sh"

awk -F '"' '
    /^name = / { name = $2 }
    /^version = / && name != "" {
        versions[name] = versions[name] (versions[name] ? ", " : "") $2
        count[name]++
        name = ""
    }
    END { for (name in count) if (count[name] > 1) print name "\t" versions[name] }
' "$ORCH_PROJECT/Cargo.lock" > "$scratch/duplicates.tsv"
sort "$scratch/duplicates.tsv" | put duplicates.tsv
echo "$(wc -l < duplicates.tsv) packages in several versions"
