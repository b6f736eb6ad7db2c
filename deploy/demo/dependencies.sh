#!/bin/sh
# Every package that this project is built from on this platform, the project's
# own aside -> dependencies.tsv: name, version, licence.
. "$(dirname "$0")/lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
project_cargo metadata --format-version 1 --filter-platform "$host" > "$scratch/metadata.json"
sh "$demo/json.sh" < "$scratch/metadata.json" > "$scratch/metadata.tsv"
awk -F '\t' '
    { split($1, part, "."); n = part[2] }
    $1 ~ /^packages\.[0-9]+\.id$/ { id[n] = $2 }
    $1 ~ /^packages\.[0-9]+\.name$/ { name[n] = $2; if (n + 1 > count) count = n + 1 }
    $1 ~ /^packages\.[0-9]+\.version$/ { version[n] = $2 }
    $1 ~ /^packages\.[0-9]+\.license$/ && $2 != "null" { licence[n] = $2 }
    $1 ~ /^packages\.[0-9]+\.license_file$/ && $2 != "null" { file[n] = $2 }
    $1 ~ /^workspace_members\.[0-9]+$/ { own[$2] = 1 }
    END {
        for (n = 0; n < count; n++) {
            if (id[n] in own) continue
            if (licence[n] == "") licence[n] = file[n] == "" ? "not stated" : "see its file " file[n]
            gsub(" */ *", " OR ", licence[n])
            print name[n] "\t" version[n] "\t" licence[n]
        }
    }' "$scratch/metadata.tsv" | sort > "$scratch/dependencies.tsv"
put dependencies.tsv < "$scratch/dependencies.tsv"
echo "$(wc -l < dependencies.tsv) packages"
