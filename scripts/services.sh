#!/bin/bash
# The services of deploy/compose/compose.yml with demo.yml, without containers: PostgreSQL, an S3-compatible server, a dev node, two Prover
# Servers, two clients and Prometheus, with the settings, alerts and dashboard of this repository. Asks Prometheus itself: whether it has every
# metric of docs/metrics.md, whether each rule and each panel can be computed, that no alert fires while all is well, and that the right ones fire
# when a client and then a server dies, and end when they are back. Needs PostgreSQL and Prometheus (make setup-services).
#
#   scripts/services.sh PATH/TO/l2-prover PATH/TO/s3_server
set -euo pipefail

prover=$(realpath "${1:?usage: $0 PATH/TO/l2-prover PATH/TO/s3_server}")
s3=$(realpath "${2:?usage: $0 PATH/TO/l2-prover PATH/TO/s3_server}")
root=$(realpath "$(dirname "$0")/..")
patience=90
source "$root/scripts/common.sh"
command -v prometheus >/dev/null || die "Prometheus is not installed: make setup-services"
start_postgres

say() { echo "== $*"; }
random() { head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# What deploy/compose/secrets.sh makes.
umask 077
database=postgres://prover@127.0.0.1:$database_port/postgres
access_key=prover-$(random) secret_key=$(random)
for name in viewer client-1 client-2; do
    PROVER_SERVER_DATABASE=$database "$prover" tokens create --name "$name" --role "${name%%-*}" --json |
        sed -n 's/.*"token":"\([^"]*\)".*/\1/p' >"$folder/$name.token"
    [ -s "$folder/$name.token" ] || die "no token was made for $name"
done

mkdir -p "$folder/s3/artifacts"
s3_port=$(free_port)
AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key "$s3" "$folder/s3" "127.0.0.1:$s3_port" >"$folder/s3.log" 2>&1 &
pids[s3]=$!
until_true "the S3-compatible server listens" 'curl -s "http://127.0.0.1:$s3_port"'
node_port=$(free_port)
start_node "$prover"
until_true "the node answers" head_block

# $1's settings are those of the files that compose.yml and demo.yml name; only addresses, keys and folders differ.
declare -A ports
for name in server-1 server-2 client-1 client-2 prometheus; do ports[$name]=$(free_port); done
with_settings() {
    local name=$1 files=$2 file
    shift 2
    for file in $files; do
        set -a
        # shellcheck disable=SC1090
        source "$root/deploy/compose/$file"
        set +a
    done
    mkdir -p "$folder/$name"
    cd "$folder/$name"
    exec env "$@" >>"$folder/$name.log" 2>&1
}
start_server() {
    with_settings "$1" "server.env demo.env" PROVER_SERVER_LISTEN_IP=127.0.0.1 PROVER_SERVER_LISTEN_PORT="${ports[$1]}" \
        PROVER_SERVER_DATABASE="$database" PROVER_SERVER_RPC_URL="http://127.0.0.1:$node_port" AWS_ENDPOINT="http://127.0.0.1:$s3_port" \
        AWS_ACCESS_KEY_ID="$access_key" AWS_SECRET_ACCESS_KEY="$secret_key" PROVER_SERVER_DATA_DIR="$folder/$1" "$prover" server &
    pids[$1]=$!
}
servers=http://127.0.0.1:${ports[server-1]},http://127.0.0.1:${ports[server-2]}
start_client() {
    with_settings "$1" "client.env demo.env" PROVER_CLIENT_PROVER_SERVER_ENDPOINT="$servers" PROVER_CLIENT_NAME="$1" \
        PROVER_CLIENT_METRICS_ADDR="127.0.0.1:${ports[$1]}" PROVER_CLIENT_DATA_DIR="$folder/$1" L2_PROVER_TOKEN_FILE="$folder/$1.token" \
        "$prover" client &
    pids[$1]=$!
}
ready() {
    L2_PROVER_SERVER=http://127.0.0.1:${ports[$1]} L2_PROVER_TOKEN_FILE=$folder/viewer.token "$root/deploy/images/l2-prover-ready"
}
for name in server-1 server-2; do start_server $name; done
for name in server-1 server-2; do until_true "$name is ready" "ready $name"; done
if curl -sf "http://127.0.0.1:${ports[server-1]}/metrics" >/dev/null; then die "a server shows its metrics without a token"; fi
for name in client-1 client-2; do start_client $name; done

# Prometheus, with shorter times: what takes minutes in docs/alerts.yml takes seconds here (promtool tests the real times: make deploy-check).
mkdir "$folder/prometheus"
sed -E 's/for: [0-9]+[mh]/for: 3s/' "$root/docs/alerts.yml" >"$folder/alerts.yml"
addresses=(-e "s|/run/secrets/viewer_token|$folder/viewer.token|" -e 's/_interval: 15s/_interval: 1s/')
for name in server-1:3900 server-2:3900 client-1:3901 client-2:3901; do
    addresses+=(-e "s/$name/127.0.0.1:${ports[${name%%:*}]}/")
done
sed "${addresses[@]}" "$root/deploy/prometheus/prometheus.yml" >"$folder/prometheus.yml"
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
    --web.listen-address="127.0.0.1:${ports[prometheus]}" >"$folder/prometheus.log" 2>&1 &
pids[prometheus]=$!

# Asks Prometheus: `ask query EXPRESSION` or `ask rules`.
ask() {
    local api=http://127.0.0.1:${ports[prometheus]}/api/v1/$1
    if [ $# -gt 1 ]; then curl -s --get "$api" --data-urlencode "query=$2"; else curl -s "$api"; fi
}
# The first value that an expression has; nothing if it has none.
value() { ask query "$1" | python3 -c 'import json, sys; print(*[x["value"][1] for x in json.load(sys.stdin)["data"]["result"]][:1])'; }
# Whether an expression, which compares, holds for something.
holds() { [ -n "$(value "$1")" ]; }
firing() {
    ask query 'ALERTS{alertstate="firing"}' | python3 -c '
import json, sys
print(*sorted({x["metric"]["alertname"] for x in json.load(sys.stdin)["data"]["result"]}))'
}

until_true "Prometheus sees two servers and two clients" 'holds "count(up == 1) == 4"'
until_true "five blocks are proven" 'holds "max(prover_server_proved_block) >= 5"'
until_true "both clients have had proofs accepted" 'holds "count(prover_client_proofs_total{verdict=\"accepted\"} > 0) == 2"'
say "Prometheus: $(value 'count(up == 1)') targets, $(value 'count({__name__=~"prover_.*"})') series of ours, block" \
    "$(value 'max(prover_server_proved_block)') proved, $(value 'max(prover_server_clients_alive)') clients alive"

# Every metric of the documentation, every rule, and every panel.
PROMETHEUS=http://127.0.0.1:${ports[prometheus]} python3 - "$root" <<'PYTHON' || die "Prometheus lacks something"
import json, os, re, sys, time, urllib.parse, urllib.request

root = sys.argv[1]


def ask(path, **query):
    url = f"{os.environ['PROMETHEUS']}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        return json.load(urllib.request.urlopen(url))
    except urllib.error.HTTPError as error:
        return json.load(error)


wrong = []
ends = {"counter": "_total", "histogram": "_bucket", "info": "_info", "gauge": ""}
metrics = re.findall(r"^\| `(\w+)` \| (\w+) ", open(f"{root}/docs/metrics.md").read(), re.M)
assert len(metrics) > 30, metrics
for name, kind in metrics:
    if not ask("query", query=name + ends[kind])["data"]["result"]:
        wrong.append(f"Prometheus has no {name + ends[kind]}")

for _ in range(100):
    rules = [rule for group in ask("rules")["data"]["groups"] for rule in group["rules"]]
    if all(rule["health"] != "unknown" for rule in rules):
        break
    time.sleep(0.1)
assert len(rules) > 20, rules
wrong += [f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}" for rule in rules if rule["health"] != "ok"]

shown = empty = 0
for panel in json.load(open(f"{root}/deploy/grafana/l2-prover.json"))["panels"]:
    for target in panel.get("targets", []):
        answer = ask("query", query=target["expr"].replace("$__rate_interval", "1m"))
        if answer["status"] != "success":
            wrong.append(f"panel {panel['title']}: {answer['error']}")
        elif answer["data"]["result"]:
            shown += 1
        else:
            empty += 1
# Empty are those about certificates, which there are none of.
if empty > 2:
    wrong.append(f"{empty} expressions of the dashboard have no value")
print(f"== {len(metrics)} metrics of docs/metrics.md, {len(rules)} rules, {shown} expressions of the dashboard with a value, {empty} without")
sys.exit("\n".join(wrong) or 0)
PYTHON

sleep 5
[ -z "$(firing)" ] || die "alerts fire although all is well: $(firing)"
say "all is well, and no alert fires"

# A second client in a folder that is in use.
if (PROVER_CLIENT_METRICS_ADDR='' with_settings client-1 "client.env demo.env" -u PROVER_CLIENT_METRICS_ADDR PROVER_CLIENT_DATA_DIR="$folder/client-1" \
    PROVER_CLIENT_PROVER_SERVER_ENDPOINT="$servers" L2_PROVER_TOKEN_FILE="$folder/client-1.token" timeout 30 "$prover" client); then
    die "a second client started in the folder of the first"
fi
say "a second client in the same folder is refused: $(grep -ho 'error: .*' "$folder/client-1.log" | tail -n 1)"

# $1 is killed: $2 fires, for it alone, the rest goes on, and the alert ends when it is back.
dies() {
    local name=$1 alert=$2 start=$3 before start_time
    # shellcheck disable=SC2034 # used in an expression that until_true evaluates
    local of="instance=\"127.0.0.1:${ports[$1]}\""
    # shellcheck disable=SC2034 # the same
    before=$(value 'max(prover_server_proved_block)')
    kill -9 "${pids[$name]}"
    wait "${pids[$name]}" 2>/dev/null || true
    start_time=$SECONDS
    until_true "$alert fires for $name" 'holds "ALERTS{alertname=\"$alert\",alertstate=\"firing\",$of}"'
    holds "count(ALERTS{alertname=\"$alert\",alertstate=\"firing\"}) == 1" || die "$alert fires for others than $name too"
    say "$name was killed: $(firing) fires after $((SECONDS - start_time)) s"
    until_true "blocks are still proven" 'holds "max(prover_server_proved_block) > $before + 4"'
    "$start" "$name"
    until_true "$alert ends" '! holds "ALERTS{alertname=\"$alert\"}" && holds "count(up == 1) == 4"'
    say "$name is back: $alert has ended, and block $(value 'max(prover_server_proved_block)') is proved"
}
dies client-2 ProverClientDown start_client
dies server-1 ProverServerDown start_server
until_true "server-1 is ready" "ready server-1"

kill "${pids[server-1]}" "${pids[server-2]}"
wait "${pids[server-1]}" "${pids[server-2]}" 2>/dev/null || true
AWS_ENDPOINT=http://127.0.0.1:$s3_port AWS_ALLOW_HTTP=true AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key \
    "$prover" fsck --database "$database" --artifacts s3://artifacts/l2-prover
say "the services of the compose file work together"
