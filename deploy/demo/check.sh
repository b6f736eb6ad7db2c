#!/bin/sh
# Fails unless report.md is whole: every section is there, no cell of the first
# table is empty, and the drawing that it shows exists.
. "$(dirname "$0")/lib.sh"

for section in "At a glance" Findings Crates "Longest functions" "Largest files" \
    "Licences of the dependencies" History; do
    grep -q "^## $section\$" report.md || { echo "report.md has no section \"$section\"" >&2; exit 1; }
done
if grep -n '| *| *$' report.md | grep -v '^[0-9]*:| what | |$'; then
    echo "report.md has empty cells" >&2
    exit 1
fi
test -s lines.svg
grep -q '</svg>' lines.svg
