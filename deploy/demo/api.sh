#!/bin/sh
# source.tsv -> api.tsv: crate, public items, documented ones. Counted are items
# that are `pub` without limits, outside of tests; a `pub use` repeats another.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    FNR == NR { crates[$1]; next }
    $2 != file { file = $2; documented = 0 }
    $4 == "doc" { documented = 1; next }
    $4 == "comment" { next }
    $4 == "blank" { documented = 0; next }
    # A macro hands documentation on as an attribute.
    $6 ~ /#\[\$/ { documented = 1; next }
    # Attributes stand between the documentation and its item.
    $6 ~ /^ *#\[/ || attribute { attribute = ($6 !~ /\] *$/); next }
    {
        if (!$5 && $6 ~ /^ *pub +((const|async|unsafe|extern "*) +)*(fn|struct|enum|trait|type|const|static|mod|union) /) {
            items[$1]++
            # A module has its documentation inside, in its own file.
            if (documented || $6 ~ /pub +mod [a-z_0-9]+;/) with[$1]++
        }
        documented = 0
    }
    END { for (crate in crates) print crate "\t" items[crate] + 0 "\t" with[crate] + 0 }
' crates.tsv source.tsv > "$scratch/api.tsv"
sort "$scratch/api.tsv" | put api.tsv
awk -F '\t' '{ items += $2; with += $3 } END { print items + 0 " public items, " with + 0 " documented" }' api.tsv
