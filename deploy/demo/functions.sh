#!/bin/sh
# source.tsv -> functions.tsv: lines, function, file, first line, test (0 or 1),
# longest first. A function without a body (in a trait) is not listed.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    $2 != file { file = $2; depth = 0; open = 0; waiting = ""; inside = 0 }
    $4 != "code" { next }
    {
        text = $6
        while (text != "") {
            if (waiting == "" && match(text, /(^|[^A-Za-z0-9_])fn +[A-Za-z_][A-Za-z0-9_]*/)) next_fn = RSTART
            else next_fn = 0
            mark = match(text, /[][(){};]/)
            if (next_fn && (!mark || next_fn < mark)) {
                match(text, /fn +[A-Za-z_][A-Za-z0-9_]*/)
                waiting = substr(text, RSTART + 3, RLENGTH - 3); gsub(/ /, "", waiting)
                start = $3; inside = 0
                text = substr(text, RSTART + RLENGTH)
                continue
            }
            if (!mark) break
            c = substr(text, mark, 1)
            text = substr(text, mark + 1)
            # `inside` keeps `[u8; 4]` in a signature from ending it.
            if (c == "(" || c == "[") inside++
            else if (c == ")" || c == "]") inside--
            else if (c == ";" && waiting != "" && inside <= 0) waiting = ""
            else if (c == "{") {
                depth++
                if (waiting != "") {
                    open++
                    name[open] = waiting; first[open] = start; level[open] = depth; test[open] = $5
                    waiting = ""
                }
            } else if (c == "}") {
                if (open && level[open] == depth) {
                    print $3 - first[open] + 1 "\t" name[open] "\t" file "\t" first[open] "\t" test[open]
                    open--
                }
                depth--
            }
        }
    }' source.tsv > "$scratch/functions.tsv"
sort -t "$tab" -k1,1nr -k3,3 -k4,4n "$scratch/functions.tsv" | put functions.tsv
echo "$(wc -l < functions.tsv) functions"
