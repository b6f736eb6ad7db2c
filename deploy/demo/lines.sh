#!/bin/sh
# source.tsv -> lines.tsv: crate, files, code, tests, comments, blank. Lines of
# tests are code that only tests compile; comments include the documentation.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    FNR == NR { crates[$1]; next }
    {
        if (!(($1, $2) in seen)) { seen[$1, $2]; files[$1]++ }
        if ($4 == "blank") blank[$1]++
        else if ($4 != "code") comments[$1]++
        else if ($5) tests[$1]++
        else code[$1]++
    }
    END {
        for (crate in crates)
            print crate "\t" files[crate] + 0 "\t" code[crate] + 0 "\t" tests[crate] + 0 "\t" \
                comments[crate] + 0 "\t" blank[crate] + 0
    }' crates.tsv source.tsv > "$scratch/lines.tsv"
sort -t "$tab" -k3,3nr -k1,1 "$scratch/lines.tsv" | put lines.tsv
awk -F '\t' '{ code += $3; tests += $4 } END { print code " lines of code, " tests " of tests" }' lines.tsv
