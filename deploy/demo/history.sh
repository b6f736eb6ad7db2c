#!/bin/sh
# What git remembers -> history.tsv: kind, key, value. Without a history (an
# archive, a shallow clone of nothing, no git) it says so and is done: that is an
# answer, not a failure.
. "$(dirname "$0")/lib.sh"
cd "$ORCH_PROJECT"

none() {
    cd "$OLDPWD"
    printf 'none\treason\t%s\n' "$1" | put history.tsv
    echo "no history: $1"
    exit 0
}

command -v git > /dev/null || none "git is not installed"
git rev-parse --verify --quiet HEAD > /dev/null 2>&1 || none "this folder is not a git clone with commits"
git log --no-merges --format='%H %cs' > "$scratch/commits"
git log --no-merges --format= --name-only -n 500 > "$scratch/changed"
{
    printf 'fact\tCommits\t%s\n' "$(wc -l < "$scratch/commits")"
    printf 'fact\tFirst\t%s\n' "$(tail -n 1 "$scratch/commits" | cut -d ' ' -f 2)"
    printf 'fact\tLatest\t%s\n' "$(head -n 1 "$scratch/commits" | cut -d ' ' -f 2)"
    if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        printf 'fact\tNote\tshallow clone: older commits are not here\n'
    fi
    cut -d ' ' -f 2 "$scratch/commits" | sort | uniq -c | sort -k2,2r | head -n 14 |
        awk '{ print "day\t" $2 "\t" $1 }'
    grep . "$scratch/changed" | sort | uniq -c | sort -k1,1nr -k2 | head -n 10 |
        awk '{ count = $1; sub(/^ *[0-9]+ /, ""); print "file\t" $0 "\t" count }'
} > "$scratch/history.tsv"
cd "$OLDPWD"
put history.tsv < "$scratch/history.tsv"
grep '^fact' history.tsv
