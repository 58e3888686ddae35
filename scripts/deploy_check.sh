#!/bin/bash
# Checks the files of deploy/ with the programs that read them, as far as this machine has these. What a program that is missing would have
# checked is named; `--all` makes that an error. That variables and flags exist is a test (crates/l2/tests/it/deploy.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
all=${1:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
missing=()

has() {
    if command -v "$1" >/dev/null; then
        echo "== $1: $2"
    else
        missing+=("$1: $2")
        return 1
    fi
}

if has promtool "alerts, their tests, and Prometheus' settings"; then
    promtool check rules docs/alerts.yml
    promtool test rules deploy/prometheus/alerts_test.yml
    promtool check config --syntax-only deploy/prometheus/prometheus.yml
fi
if has systemd-analyze "units"; then
    # In a root of its own, where the executables that they start are.
    mkdir -p "$folder"/{etc/systemd/system,usr/local/bin,usr/lib/systemd/system}
    cp "$(type -P true)" "$folder/usr/local/bin/l2-prover"
    cp deploy/systemd/*.service "$folder/etc/systemd/system/"
    mkdir "$folder/etc/systemd/system/l2-prover-client@.service.d"
    cp deploy/systemd/gpu.conf "$folder/etc/systemd/system/l2-prover-client@.service.d/"
    for target in basic multi-user network-online shutdown sysinit; do
        printf '[Unit]\nDescription=%s\n' $target >"$folder/usr/lib/systemd/system/$target.target"
    done
    systemd-analyze verify --man=no --root="$folder" l2-prover-server.service l2-prover-client@gpu-1.service 2>"$folder/units" || true
    if [ -s "$folder/units" ]; then
        cat "$folder/units" >&2
        exit 1
    fi
    # Exposure from 0 to 100, where a unit without any of it has 96.
    for unit in deploy/systemd/*.service; do
        systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" | tail -n 1
    done
fi
if has helm "the chart"; then
    chart=deploy/helm/l2-prover
    one="server.image.repository=registry.example/l2-prover,server.env.PROVER_SERVER_RPC_URL=http://node:8545"
    many="$one,server.replicas=2,server.secret=stores,server.env.PROVER_SERVER_ARTIFACTS=s3://artifacts/l2-prover"
    many="$many,server.viewerTokenSecret=viewer,server.tlsSecret=tls,server.serviceMonitor=true,client.replicas=3,client.podMonitor=true"
    many="$many,client.image.repository=registry.example/l2-prover-risc0,client.tokenSecret=client,client.caSecret=ca"
    clients="server.replicas=0,client.replicas=1,client.endpoints=https://prover.example:3900,client.image.repository=x,client.tokenSecret=t"
    for values in "$clients" "$one" "$many"; do
        helm lint --quiet --strict "$chart" --set "$values"
        helm template prover "$chart" --set "$values" >"$folder/chart.yaml"
    done
    # Each of these must be refused, and by its name.
    refused() {
        if helm template prover "$chart" --set "$2" >/dev/null 2>"$folder/refusal"; then
            echo "the chart takes $2" >&2
            exit 1
        fi
        grep -q "$1" "$folder/refusal" || { cat "$folder/refusal" >&2; exit 1; }
    }
    refused "several servers need" "$one,server.replicas=2"
    refused "clients need a token" "$one,client.replicas=1,client.image.repository=x"
    refused "PROVER_SERVER_AUTH is set by the chart" "$one,server.env.PROVER_SERVER_AUTH=open"
    refused "PROVER_CLIENT_DATA_DIR is set by the chart" "$many,client.env.PROVER_CLIENT_DATA_DIR=/shared"
    refused "have the server restarted" "$one,server.env.PROVER_SERVER_TLS_CLIENT_CA=ca.pem"
    refused "name the L2 node" "server.image.repository=x"
    refused "name the image" "server.env.PROVER_SERVER_RPC_URL=x"
    [ "$(grep -c '^kind:' "$folder/chart.yaml")" = 8 ]
    printf 'server: { env: { PROVER_SERVER_MAX_BATCH_CYCLES: 4000000000 } }\n' >"$folder/values.yaml"
    helm template prover "$chart" --set "$one" --values "$folder/values.yaml" | grep -q 'MAX_BATCH_CYCLES, value: "4000000000"'
fi
if has hadolint "Containerfiles"; then
    # Versions of Debian's packages go with the image that they are installed in.
    hadolint --ignore DL3008 deploy/images/Containerfile*
fi
if has yamllint "YAML"; then
    yamllint --strict --config-data '{extends: default, rules: {line-length: disable, truthy: {check-keys: false}, document-start: disable, comments: {min-spaces-from-content: 1},
        braces: {max-spaces-inside: 1}, indentation: {indent-sequences: consistent}}}' \
        deploy/compose deploy/prometheus deploy/grafana deploy/helm/l2-prover/*.yaml docs/alerts.yml .github/workflows
fi
if has shellcheck "scripts"; then
    shellcheck --external-sources --severity=warning deploy/compose/secrets.sh deploy/images/l2-prover-ready scripts/deploy_check.sh \
        scripts/services.sh scripts/release.sh
fi
compose=docker-compose
if docker compose version >/dev/null 2>&1; then compose="docker compose"; fi
if has "${compose%% *}" "compose files"; then
    cp -r deploy "$folder/deploy"
    cd "$folder/deploy/compose"
    # What secrets.sh makes.
    rm -rf secrets
    mkdir secrets
    touch secrets/{server.env,s3.env,viewer.token,client-1.token,client-2.token,db.password,grafana.password}
    $compose -f dev.yml config --quiet
    $compose -f compose.yml config --quiet
    $compose -f compose.yml -f demo.yml config >"$folder/demo.yml"
    # demo.yml changes what compose.yml says, and not the other way round.
    grep -q 'PROVER_SERVER_PROVER: exec' "$folder/demo.yml"
    cd - >/dev/null
fi

if [ ${#missing[@]} -gt 0 ]; then
    printf 'not checked, because it is not installed here: %s\n' "${missing[@]}" >&2
    [ "$all" != --all ] || exit 1
fi
