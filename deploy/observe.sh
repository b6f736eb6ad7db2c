#!/bin/sh
# Jaeger and Prometheus beside the system, as systemg services.
#
#   observe.sh jaeger       run it in the foreground, on loopback, traces in memory; where its
#                           program is not there, or nobody sends traces to this host, end well
#   observe.sh prometheus   the same with metrics, which are kept in .orch/prometheus; where its
#                           program is not there, or nobody tells metrics, end well
#
# ORCH_METRICS_ADDR says whether metrics are told; at another port than 9464 they are only
# found where deploy/prometheus/prometheus.yml names it. ORCH_PROMETHEUS_PORT (9090) is that of
# its page. `make prometheus` installs the program.
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

# The port that $1 names, else $2.
port_of() {
    port=$(setting "$1")
    case ${port:=$2} in
    *[!0-9]*) echo "$1 is \"$port\": it must be a port number" >&2; exit 1 ;;
    esac
    printf '%s' "$port"
}

jaeger() {
    endpoint=$(setting OTEL_EXPORTER_OTLP_ENDPOINT)
    port=$(loopback_port "$endpoint")
    page=$(port_of ORCH_JAEGER_PORT 16686)
    if [ -z "$port" ]; then
        echo "no traces are sent to this host: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 in .env does that"
        exit 0
    fi
    if ! command -v jaeger-all-in-one > /dev/null; then
        echo "jaeger-all-in-one is not there: \`make jaeger\` builds it where Go is installed"
        exit 0
    fi
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

run_prometheus() {
    page=$(port_of ORCH_PROMETHEUS_PORT 9090)
    if [ -z "$(setting ORCH_METRICS_ADDR)" ]; then
        echo "no metrics are told: ORCH_METRICS_ADDR=9464 in .env does that"
        exit 0
    fi
    if ! command -v prometheus > /dev/null; then
        echo "prometheus is not there: \`make prometheus\` installs it"
        exit 0
    fi
    echo "Prometheus: http://127.0.0.1:$page"
    mkdir -p .orch/prometheus
    exec prometheus --config.file=deploy/prometheus/prometheus.yml \
        --storage.tsdb.path=.orch/prometheus --web.listen-address="127.0.0.1:$page" --log.level=warn
}

case ${1:-} in
jaeger) jaeger ;;
prometheus) run_prometheus ;;
*) echo "usage: observe.sh jaeger | prometheus" >&2; exit 2 ;;
esac
