#!/bin/sh
# Puts the language models' own programs, claude and codex, into .tools/llm/bin
# as deploy/llm/package-lock.json pins them. Only the tests need them. Changes
# nothing where they are there already.
#
# The packages' install scripts are not run: all that they would do is link the
# program of this platform, which comes in a package of its own.
set -eu
cd "$(dirname "$0")/.."

root=$PWD/.tools/llm
lock=deploy/llm/package-lock.json
installed=$root/installed-lock.json

say() { printf 'llm-clis: %s\n' "$*"; }
fail() {
    printf 'llm-clis: %s\n' "$@" >&2
    exit 1
}

# The version of package $1 that is pinned.
pinned() { sed -n "s|^ *\"$1\": \"\([0-9.]*\)\",\{0,1\}\$|\1|p" deploy/llm/package.json; }

# link NAME PREFIX VERSION FILE..: the first FILE that runs here and says
# "PREFIX VERSION" becomes bin/NAME. npm may install more than one platform's.
link() {
    name=$1
    said=
    wanted=$2$3
    shift 3
    for file in "$@"; do
        said=$("$file" --version 2> /dev/null < /dev/null) || continue
        case "$said " in
        "$wanted "*)
            ln -sfn "../${file#"$root"/}" "$root/bin/$name"
            return
            ;;
        esac
    done
    fail "no $name among the installed packages says \"$wanted\" here; the last one said \"$said\"" \
        "this platform may have none: $(uname -sm)"
}

claude_version=$(pinned @anthropic-ai/claude-code)
codex_version=$(pinned @openai/codex)
if cmp -s "$lock" "$installed" && [ -x "$root/bin/claude" ] && [ -x "$root/bin/codex" ]; then
    say "claude $claude_version and codex $codex_version are there"
    exit 0
fi

sh deploy/setup.sh node
mkdir -p "$root/bin"
rm -f "$installed"
cp deploy/llm/package.json "$lock" "$root"
say "installing claude $claude_version and codex $codex_version into .tools/llm (250 MB to load, once)"
# An unreachable registry is to be told in a minute, not in ten.
npm ci --prefix "$root" --ignore-scripts --no-audit --no-fund --no-progress --loglevel error \
    --fetch-retries 2 --fetch-retry-mintimeout 2000 --fetch-retry-maxtimeout 10000 \
    > /dev/null < /dev/null ||
    fail "npm could not install them: see its message above; is its registry within reach?" \
        "(make build, make up and make demo do not need them)"

link claude '' "$claude_version" "$root"/node_modules/@anthropic-ai/claude-code-*/claude
link codex 'codex-cli ' "$codex_version" "$root"/node_modules/@openai/codex-*/vendor/*/bin/codex
cp "$lock" "$installed"
say "installed claude $claude_version and codex $codex_version"
