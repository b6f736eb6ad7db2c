# Shared by the demo's scripts; sourced, never run.
#
# A task may run twice (its agent was killed, its lease was lost), also at the
# same time as its successor. So every file is written aside and renamed into
# place: a reader sees the old file or the new one, never half of one.

set -eu
LC_ALL=C
export LC_ALL
demo=$(cd "$(dirname "$0")" && pwd)
# A model's program is not told where the project is.
ORCH_PROJECT=${ORCH_PROJECT:-${demo%/deploy/demo}}
tab=$(printf '\t')

# What a killed attempt left behind goes once it cannot be in use any more.
find . -name '.scratch.*' -prune -mtime +0 -exec rm -rf {} +
scratch=$(mktemp -d "$PWD/.scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 143' TERM INT HUP

# Puts standard input into the file $1 of the working folder.
put() {
    cat > ".$1.$$"
    mv -f ".$1.$$" "$1"
}

# Runs cargo on the project without the network where it can: a task that waits
# for a download is a task that fails on a train.
project_cargo() {
    (cd "$ORCH_PROJECT" && {
        cargo "$@" --locked --offline 2> "$scratch/cargo.err" ||
            cargo "$@" --locked 2> "$scratch/cargo.err" ||
            { cat "$scratch/cargo.err" >&2; exit 1; }
    })
}

# The project's own files, relative to it: what git tracks or would track, else
# everything outside of hidden folders and build output.
project_files() {
    (
        cd "$ORCH_PROJECT"
        git ls-files --cached --others --exclude-standard 2> /dev/null ||
            find . -name '.?*' -prune -o -name target -prune -o -type f -print | sed 's|^\./||'
    ) | sort | while IFS= read -r file; do
        if [ -f "$ORCH_PROJECT/$file" ]; then printf '%s\n' "$file"; fi
    done
}
