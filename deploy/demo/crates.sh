#!/bin/sh
# The workspace's own packages -> crates.tsv: name, folder, targets, direct
# dependencies, test (1 where only tests use it), description.
. "$(dirname "$0")/lib.sh"

project_cargo metadata --format-version 1 --no-deps > "$scratch/metadata.json"
sh "$demo/json.sh" < "$scratch/metadata.json" > "$scratch/metadata.tsv"
awk -F '\t' '
    { split($1, part, "."); n = part[2] }
    $1 == "workspace_root" { root = $2 }
    $1 ~ /^packages\.[0-9]+\.name$/ { name[n] = $2; if (n + 1 > count) count = n + 1 }
    $1 ~ /^packages\.[0-9]+\.manifest_path$/ { folder[n] = $2; sub(/\/Cargo\.toml$/, "", folder[n]) }
    $1 ~ /^packages\.[0-9]+\.description$/ && $2 != "null" { about[n] = $2 }
    $1 ~ /^packages\.[0-9]+\.dependencies\.[0-9]+\.name$/ { direct[n]++; needed = $2 }
    $1 ~ /^packages\.[0-9]+\.dependencies\.[0-9]+\.kind$/ { if ($2 == "dev") dev[needed]++; else real[needed]++ }
    $1 ~ /^packages\.[0-9]+\.targets\.[0-9]+\.kind\.0$/ {
        if (index(" " kinds[n] " ", " " $2 " ") == 0) kinds[n] = kinds[n] (kinds[n] ? " " : "") $2
    }
    END {
        for (n = 0; n < count; n++) {
            if (folder[n] == root) folder[n] = "."
            else folder[n] = substr(folder[n], length(root) + 2)
            print name[n] "\t" folder[n] "\t" kinds[n] "\t" direct[n] + 0 \
                "\t" (dev[name[n]] && !real[name[n]]) + 0 "\t" about[n]
        }
    }' "$scratch/metadata.tsv" | sort > "$scratch/crates.tsv"
test -s "$scratch/crates.tsv"
put crates.tsv < "$scratch/crates.tsv"
echo "$(wc -l < crates.tsv) crates"
