#!/bin/sh
# Outside of tests, what can break memory safety or end the program -> hazards.tsv:
# kind, file, line. Kinds: unsafe, unwrap, expect, panic (with its kin).
. "$(dirname "$0")/lib.sh"

awk -F '\t' '
    $4 != "code" || $5 { next }
    $6 ~ /(^|[^A-Za-z0-9_])unsafe([^A-Za-z0-9_]|$)/ { print "unsafe\t" $2 "\t" $3 }
    $6 ~ /\.unwrap\(\)/ { print "unwrap\t" $2 "\t" $3 }
    $6 ~ /\.expect\(/ { print "expect\t" $2 "\t" $3 }
    $6 ~ /(^|[^A-Za-z0-9_])(panic|todo|unimplemented|unreachable)!/ { print "panic\t" $2 "\t" $3 }
' source.tsv > "$scratch/hazards.tsv"
put hazards.tsv < "$scratch/hazards.tsv"
cut -f 1 hazards.tsv | sort | uniq -c
