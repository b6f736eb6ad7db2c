#!/bin/sh
# Builds Jaeger into .tools/bin/jaeger-all-in-one from its sources, of the versions that
# deploy/jaeger/go.mod pins: no package has it. Needs Go. Changes nothing where it is there.
#
# Its web page is no part of the Go module: what is built here takes traces and answers
# the API; docs/traces.md says how to get the page.
set -eu
cd "$(dirname "$0")/.."

program=$PWD/.tools/bin/jaeger-all-in-one
stamp=$PWD/.tools/jaeger.sum

fail() {
    printf 'jaeger: %s\n' "$@" >&2
    exit 1
}

if [ -x "$program" ] && cmp -s deploy/jaeger/go.sum "$stamp"; then
    echo "jaeger: it is there"
    exit 0
fi
command -v go > /dev/null ||
    fail "Go is missing: install it, or put a jaeger-all-in-one of Jaeger 1 into PATH and do without this"
echo "jaeger: building it into .tools/bin (some minutes, once)"
mkdir -p .tools/bin
cd deploy/jaeger
go build -trimpath -o "$program" github.com/jaegertracing/jaeger/cmd/all-in-one < /dev/null ||
    fail "go could not build it: see its message above; is its module proxy within reach?"
cp go.sum "$stamp"
echo "jaeger: built"
