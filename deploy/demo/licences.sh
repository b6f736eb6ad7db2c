#!/bin/sh
# dependencies.tsv -> licences.tsv: packages, licence, the first names. The order
# inside `A OR B` means nothing, so `B OR A` counts as the same.
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    function canonical(text,   part, count, i, j, swap, out) {
        if (text ~ /[()]| AND | WITH /) return text
        count = split(text, part, " OR ")
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && part[j - 1] > part[j]; j--) {
                swap = part[j]; part[j] = part[j - 1]; part[j - 1] = swap
            }
        out = part[1]
        for (i = 2; i <= count; i++) out = out " OR " part[i]
        return out
    }
    {
        licence = canonical($3)
        packages[licence]++
        if (packages[licence] <= 4) names[licence] = names[licence] (names[licence] ? ", " : "") $1
    }
    END {
        for (licence in packages)
            print packages[licence] "\t" licence "\t" names[licence] (packages[licence] > 4 ? ", …" : "")
    }' dependencies.tsv > "$scratch/licences.tsv"
sort -t "$tab" -k1,1nr -k2,2 "$scratch/licences.tsv" | put licences.tsv
echo "$(wc -l < licences.tsv) licences"
