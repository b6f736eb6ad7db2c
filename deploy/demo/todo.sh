#!/bin/sh
# Promises left in comments -> todo.tsv: file, line, the comment. An empty file is
# the best result.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    $7 ~ /(^|[^A-Za-z])(TODO|FIXME|XXX|HACK)([^A-Za-z]|$)/ {
        sub(/^[\/*! ]*/, "", $7)
        print $2 "\t" $3 "\t" $7
    }' source.tsv > "$scratch/todo.tsv"
put todo.tsv < "$scratch/todo.tsv"
echo "$(wc -l < todo.tsv) left"
