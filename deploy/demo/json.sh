#!/bin/sh
# Flattens JSON on standard input into lines of `path<TAB>value`, one for each
# scalar: `packages.0.name<TAB>serde`. It is all the JSON that a bare Debian can
# read. Escapes are kept but for \" \\ and \/; empty objects and lists vanish.
set -eu
LC_ALL=C grep -oE '"(\\.|[^"\\])*"|[][{}:,]|[^][{}:,"[:space:]]+' | LC_ALL=C awk '
    function here(   i, path) {
        path = at[1]
        for (i = 2; i <= depth; i++) path = path "." at[i]
        return path
    }
    /^[[{]/ { depth++; list[depth] = ($0 == "["); at[depth] = 0; key[depth] = !list[depth]; next }
    /^[]}]/ { depth--; next }
    $0 == ":" { key[depth] = 0; next }
    $0 == "," { if (list[depth]) at[depth]++; else key[depth] = 1; next }
    {
        text = $0
        if (text ~ /^"/) {
            text = substr(text, 2, length(text) - 2)
            gsub(/\\"/, "\"", text); gsub(/\\\//, "/", text); gsub(/\\\\/, "\\", text)
        }
        if (key[depth]) at[depth] = text
        else print here() "\t" text
    }'
