#!/bin/sh
# All the numbers -> findings.tsv: grade (good, look, act), what was found, what
# to do. The thresholds are this project's own rules.
. "$(dirname "$0")/lib.sh"

max_function_lines=80
max_file_lines=600

finding() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
# counted 1 "note is" "notes are": the number with the right words.
counted() { if [ "$1" -eq 1 ]; then printf '1 %s' "$2"; else printf '%s %s' "$1" "$3"; fi; }
rows() { wc -l < "$1" | tr -d ' '; }
{
    long=$(awk -F '\t' -v max=$max_function_lines '$1 > max' functions.tsv | wc -l | tr -d ' ')
    longest=$(awk -F '\t' 'NR == 1 { print "`" $2 "` with " $1 " lines" }' functions.tsv)
    if [ "$long" -gt 0 ]; then
        finding look "$(counted "$long" "function is" "functions are") longer than $max_function_lines lines; the longest is $longest" "split them where they change subject"
    else
        finding good "no function is longer than $max_function_lines lines; the longest is ${longest:-none}" ""
    fi

    big=$(awk -F '\t' -v max=$max_file_lines '
        { lines[$2]++ }
        END { for (file in lines) if (lines[file] > max) print "`" file "` (" lines[file] ")" }' source.tsv | sort)
    if [ -n "$big" ]; then
        finding look "files of more than $max_file_lines lines: $(printf '%s' "$big" | tr '\n' ' ')" "split them by subject"
    else
        finding good "no source file is longer than $max_file_lines lines" ""
    fi

    todo=$(rows todo.tsv)
    if [ "$todo" -gt 0 ]; then
        finding look "$(counted "$todo" "note" "notes") of work to do left in comments" "do it, or make it an issue"
    else
        finding good "no note of work to do is left in a comment" ""
    fi

    unsafe=$(awk -F '\t' '$1 == "unsafe" { files[$2]; count++ } END { n = 0; for (file in files) n++; if (count) print count " lines in " n (n == 1 ? " file" : " files") }' hazards.tsv)
    if [ -n "$unsafe" ]; then
        finding look "unsafe code: $unsafe" "read each with its reason"
    else
        finding good "no unsafe code" ""
    fi
    ending=$(awk -F '\t' '$1 != "unsafe"' hazards.tsv | wc -l | tr -d ' ')
    if [ "$ending" -gt 0 ]; then
        finding act "$(counted "$ending" place places) outside of tests that can end the program (unwrap, expect, panic)" "return an error instead"
    else
        finding good "outside of tests nothing unwraps, expects or panics" ""
    fi

    untested=$(awk -F '\t' '
        FILENAME == "lines.tsv" { code[$1] = $3; next }
        $2 == 0 && code[$1] >= 50 { print "`" $1 "`" }' lines.tsv tests.tsv | sort | tr '\n' ' ')
    if [ -n "$untested" ]; then
        finding look "crates with code and no test of their own: $untested" "test them, or say where they are tested"
    else
        finding good "every crate with 50 lines of code or more has tests of its own" ""
    fi

    bare=$(awk -F '\t' '{ n += $2 - $3 } END { print n + 0 }' api.tsv)
    if [ "$bare" -gt 0 ]; then
        finding look "$(counted "$bare" "public item" "public items") without documentation" "say what they promise"
    else
        finding good "every public item is documented" ""
    fi

    duplicates=$(rows duplicates.tsv)
    if [ "$duplicates" -gt 0 ]; then
        finding look "$(counted "$duplicates" "package is" "packages are") locked in more than one version" "wait for their users, or update them"
    else
        finding good "no package is locked in more than one version" ""
    fi

    doubtful=$(awk -F '\t' '$3 ~ /GPL|MPL|not stated|see its file/ && $3 !~ / OR / { print "`" $1 "` (" $3 ")" }' dependencies.tsv | tr '\n' ' ')
    if [ -n "$doubtful" ]; then
        finding act "licences that need a decision: $doubtful" "decide, and record it in deny.toml"
    else
        finding good "every dependency can be had under a permissive licence" ""
    fi
} > "$scratch/findings.tsv"
put findings.tsv < "$scratch/findings.tsv"
cut -f 1 findings.tsv | sort | uniq -c
