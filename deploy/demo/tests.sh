#!/bin/sh
# source.tsv -> tests.tsv: crate, number of test functions, how many are ignored.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    FNR == NR { crates[$1]; next }
    $4 == "code" && $6 ~ /#\[([a-z_]+::)*(test|rstest|test_case)(\(.*)?\]/ { tests[$1]++ }
    $4 == "code" && $6 ~ /#\[ignore/ { ignored[$1]++ }
    END { for (crate in crates) print crate "\t" tests[crate] + 0 "\t" ignored[crate] + 0 }
' crates.tsv source.tsv > "$scratch/tests.tsv"
sort -t "$tab" -k2,2nr -k1,1 "$scratch/tests.tsv" | put tests.tsv
awk -F '\t' '{ tests += $2 } END { print tests + 0 " tests" }' tests.tsv
