#!/bin/sh
# All the tables -> report.md.
. "$(dirname "$0")/lib.sh"

sum() { awk -F '\t' -v column="$2" '{ n += $column } END { print n + 0 }' "$1"; }
thousands() {
    awk -v n="$1" 'BEGIN {
        text = sprintf("%d", n)
        while (text ~ /[0-9][0-9][0-9][0-9]/) {
            match(text, /^[0-9]+/)
            text = substr(text, 1, RLENGTH - 3) "," substr(text, RLENGTH - 2)
        }
        print text
    }'
}
row() { printf '| %s | %s |\n' "$1" "$2"; }
grade() { grep -c "^$1$tab" findings.tsv || true; }
findings() {
    grep "^$1$tab" findings.tsv | awk -F '\t' -v mark="$2" '{ print "- " mark " " $2 ($3 == "" ? "" : ": *" $3 "*") }' || true
}

name=$(awk -F '\t' '$2 == "." { print $1 }' crates.tsv)
commit=$(git -C "$ORCH_PROJECT" rev-parse --short HEAD 2> /dev/null || true)
act=$(grade act)
look=$(grade look)
good=$(grade good)
if [ "$act" -gt 0 ]; then verdict="**$act to act on**, $look to look at, $good good"
elif [ "$look" -gt 0 ]; then verdict="**nothing to act on**, $look to look at, $good good"
else verdict="**all $good checks are good**"; fi
items=$(sum api.tsv 2)
documented=$(sum api.tsv 3)

{
    echo "# Health of ${name:-this workspace}"
    echo
    echo "Written on $(date -u '+%Y-%m-%d at %H:%M UTC')${commit:+ for commit \`$commit\`}: $verdict."
    echo
    echo "## At a glance"
    echo
    echo "| what | |"
    echo "| --- | ---: |"
    row "Crates" "$(wc -l < crates.tsv | tr -d ' ')"
    row "Rust files" "$(sum lines.tsv 2)"
    row "Lines of code" "$(thousands "$(sum lines.tsv 3)")"
    row "Lines of tests" "$(thousands "$(sum lines.tsv 4)")"
    row "Lines of comments" "$(thousands "$(sum lines.tsv 5)")"
    row "Test functions" "$(thousands "$(sum tests.tsv 2)")"
    row "Functions" "$(thousands "$(wc -l < functions.tsv)")"
    row "Public items, documented" "$documented of $items"
    row "Dependencies on this platform" "$(wc -l < dependencies.tsv | tr -d ' ')"
    awk -F '\t' '{ print "| " $1 " | " $2 " |" }' toolchain.tsv
    echo
    echo "![Lines per crate](lines.svg)"
    echo
    echo "## Findings"
    echo
    findings act "🔴"
    findings look "🟡"
    findings good "🟢"
    echo
    echo "## Crates"
    echo
    echo "| crate | what it is | code | tests | comments | test functions | public items |"
    echo "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    awk -F '\t' '
        FILENAME == "crates.tsv" { about[$1] = $6; next }
        FILENAME == "tests.tsv" { tests[$1] = $2; next }
        FILENAME == "api.tsv" { items[$1] = $2; next }
        { print "| `" $1 "` | " about[$1] " | " $3 " | " $4 " | " $5 " | " tests[$1] " | " items[$1] " |" }
    ' crates.tsv tests.tsv api.tsv lines.tsv
    echo
    echo "## Longest functions"
    echo
    echo "| lines | function | where |"
    echo "| ---: | --- | --- |"
    head -n 10 functions.tsv | awk -F '\t' '{ print "| " $1 " | `" $2 "` | `" $3 ":" $4 "`" ($5 ? " (test)" : "") " |" }'
    echo
    echo "## Largest files"
    echo
    echo "| KiB | file |"
    echo "| ---: | --- |"
    head -n 10 largest.tsv | awk -F '\t' '{ printf "| %.1f | `%s` |\n", $1 / 1024, $2 }'
    echo
    echo "## Unsafe code and sudden ends"
    echo
    if [ -s hazards.tsv ]; then
        echo "| kind | where |"
        echo "| --- | --- |"
        head -n 20 hazards.tsv | awk -F '\t' '{ print "| " $1 " | `" $2 ":" $3 "` |" }'
        if [ "$(wc -l < hazards.tsv)" -gt 20 ]; then
            echo
            echo "All $(wc -l < hazards.tsv | tr -d ' ') are in \`hazards.tsv\`."
        fi
    else
        echo "None outside of tests."
    fi
    echo
    echo "## Work left in comments"
    echo
    if [ -s todo.tsv ]; then
        head -n 20 todo.tsv | awk -F '\t' '{ gsub(/[`|]/, " ", $3); print "- `" $1 ":" $2 "`: `" $3 "`" }'
    else
        echo "None."
    fi
    echo
    echo "## Licences of the dependencies"
    echo
    echo "| packages | licence | such as |"
    echo "| ---: | --- | --- |"
    awk -F '\t' '{ print "| " $1 " | " $2 " | " $3 " |" }' licences.tsv
    echo
    echo "## Packages in several versions"
    echo
    if [ -s duplicates.tsv ]; then
        echo "| package | versions |"
        echo "| --- | --- |"
        awk -F '\t' '{ print "| `" $1 "` | " $2 " |" }' duplicates.tsv
    else
        echo "None."
    fi
    echo
    echo "## History"
    echo
    if grep -q "^none$tab" history.tsv; then
        awk -F '\t' '{ print "No history: " $3 "." }' history.tsv
    else
        awk -F '\t' '$1 == "fact" { print "- " $2 ": " $3 }' history.tsv
        echo
        echo "Commits on the latest days with any:"
        echo
        echo '```text'
        awk -F '\t' '$1 == "day" {
            bar = ""
            for (i = 0; i < $3 && i < 60; i++) bar = bar "█"
            printf "%s %4d %s\n", $2, $3, bar
        }' history.tsv
        echo '```'
        echo
        echo "Changed most often, in the latest 500 commits:"
        echo
        echo "| commits | file |"
        echo "| ---: | --- |"
        awk -F '\t' '$1 == "file" { print "| " $3 " | `" $2 "` |" }' history.tsv
    fi
} > "$scratch/report.md"
put report.md < "$scratch/report.md"
echo "report.md: $(wc -l < report.md | tr -d ' ') lines"
