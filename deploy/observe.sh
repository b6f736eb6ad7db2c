#!/bin/sh
# Jaeger beside the system, as a systemg service.
#
#   observe.sh jaeger    run it in the foreground, on loopback, traces in memory; where its
#                        program is not there, or nobody sends traces to this host, end well
#
# OTEL_EXPORTER_OTLP_ENDPOINT, from the environment, else from .env, names the port that
# traces are sent to; ORCH_JAEGER_PORT (16686) is that of its page. `make jaeger` builds the
# program; jaeger-all-in-one of a Jaeger 1 somewhere in PATH will do as well.
set -eu
cd "$(dirname "$0")/.."

. ./deploy/env.sh

# The port of a URL on this host's loopback; nothing for any other URL.
loopback_port() {
    printf '%s' "$1" | sed -n 's#^http://\(127\.0\.0\.1\|localhost\):\([0-9]\{1,5\}\)/*$#\2#p'
}

jaeger() {
    endpoint=$(setting OTEL_EXPORTER_OTLP_ENDPOINT)
    port=$(loopback_port "$endpoint")
    page=$(setting ORCH_JAEGER_PORT)
    page=${page:-16686}
    if [ -z "$port" ]; then
        echo "no traces are sent to this host: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 in .env does that"
        exit 0
    fi
    if ! command -v jaeger-all-in-one > /dev/null; then
        echo "jaeger-all-in-one is not there: \`make jaeger\` builds it where Go is installed"
        exit 0
    fi
    case $page in
    *[!0-9]*) echo "ORCH_JAEGER_PORT is \"$page\": it must be a port number" >&2; exit 1 ;;
    esac
    echo "Jaeger: http://127.0.0.1:$page"
    # All that it would open besides is closed or on a port that nobody knows.
    SPAN_STORAGE_TYPE=memory exec jaeger-all-in-one \
        --memory.max-traces=50000 \
        --query.http-server.host-port="127.0.0.1:$page" \
        --query.grpc-server.host-port=127.0.0.1:0 \
        --collector.otlp.enabled=true \
        --collector.otlp.http.host-port="127.0.0.1:$port" \
        --collector.otlp.grpc.host-port=127.0.0.1:0 \
        --collector.http-server.host-port=127.0.0.1:0 \
        --collector.grpc-server.host-port=127.0.0.1:0 \
        --admin.http.host-port=127.0.0.1:0 \
        --processor.jaeger-binary.server-host-port=127.0.0.1:0 \
        --processor.jaeger-compact.server-host-port=127.0.0.1:0 \
        --processor.zipkin-compact.server-host-port=127.0.0.1:0 \
        --http-server.host-port=127.0.0.1:0 \
        --log-level=error
}

case ${1:-} in
jaeger) jaeger ;;
*) echo "usage: observe.sh jaeger" >&2; exit 2 ;;
esac
