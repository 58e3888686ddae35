# For scripts that run the real programs in a temporary folder: processes to be killed in `pids`, logs in `$folder`.
# shellcheck shell=bash
folder=$(mktemp -d)
declare -A pids

# Stops other processes before the folder is deleted.
stop_rest() { :; }

cleanup() {
    { kill -9 "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null || true
    stop_rest
    rm -rf "$folder"
}
trap cleanup EXIT

die() {
    echo "$*" >&2
    tail -n 5 "$folder"/*.log >&2
    exit 1
}

# Runs `$2` until it succeeds, for at most `$patience` seconds.
until_true() {
    for _ in $(seq $((patience * 10))); do
        if eval "$2" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    die "it never came true that $1"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts a PostgreSQL of the script's own, which `sql` asks. Its port is in `$database_port`.
start_postgres() {
    local programs owner=()
    programs=$(dirname "$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)")
    [ -x "$programs/initdb" ] || programs=$(dirname "$(command -v initdb)") || die "PostgreSQL is not installed: make setup"
    psql=$programs/psql
    database_port=$(free_port)
    if [ "$(id -u)" = 0 ]; then
        chmod 755 "$folder"
        install -d -o postgres "$folder/database"
        owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    else
        mkdir "$folder/database"
    fi
    cd "$folder"
    "${owner[@]}" "$programs/initdb" -D database/data --auth=trust --username=prover >initdb.log
    "${owner[@]}" "$programs/postgres" -D database/data -p "$database_port" -c listen_addresses=127.0.0.1 \
        -k "$folder/database" >postgres.log 2>&1 &
    postgres=$!
    stop_rest() { { kill -QUIT "$postgres" && wait "$postgres"; } 2>/dev/null || true; }
    until_true "PostgreSQL answers" 'sql "SELECT 1"'
}

sql() { "$psql" -h 127.0.0.1 -p "$database_port" -U prover -d postgres -Atqc "$1"; }

# Installs anvil and cast from npm into the folder `$1`, unless they are there. The executables are in `$anvil` and `$cast`.
install_foundry() {
    local version=1.7.1
    mkdir -p "$1"
    if [ ! -x "$1/node_modules/.bin/anvil" ] || [ ! -x "$1/node_modules/.bin/cast" ]; then
        (cd "$1" && npm install --no-audit --no-fund --no-save "@foundry-rs/anvil@$version" "@foundry-rs/cast@$version") \
            >"$folder/npm.log" 2>&1 || die "npm could not install anvil and cast"
    fi
    # The executables themselves: npm links only a script that starts them.
    anvil=$(find "$(realpath "$1")/node_modules/@foundry-rs" -path '*/bin/anvil' -type f -size +1M | head -n 1)
    cast=$(find "$(realpath "$1")/node_modules/@foundry-rs" -path '*/bin/cast' -type f -size +1M | head -n 1)
}

# Starts a dev node of the executable `$1` on `$node_port`, with the arguments that follow.
start_node() {
    local program=$1
    shift
    "$program" node --node-port "$node_port" --block-time 500ms "$@" >>"$folder/node.log" 2>&1 &
    pids[node]=$!
}

# The newest block of the dev node on `$node_port`.
head_block() {
    curl -sf -H 'content-type: application/json' "http://127.0.0.1:$node_port" \
        -d '{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}' | sed 's/.*"result":"\(0x[0-9a-f]*\)".*/\1/'
}

# Has the dev node make a block, with nothing in it unless somebody sent something.
mine_block() {
    curl -sf -H 'content-type: application/json' "http://127.0.0.1:$node_port" \
        -d '{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":[]}'
}

# How many rows a query has.
count() { sql "SELECT count(*) FROM ($1) t"; }

# Waits until every block up to the newest is proven, and makes sure that each was proven exactly once.
proven_once() {
    last=$(($(head_block)))
    until_true "every block up to $last is proven" '[ "$(sql "SELECT count(*) FROM jobs j JOIN batches b ON b.id = j.batch
        WHERE b.last <= $last AND state = '"'proved'"'")" -ge "$last" ]'
    local up_to="JOIN jobs j ON j.id = s.job JOIN batches b ON b.id = j.batch WHERE b.last <= $last"
    local blocks jobs accepted twice rejected duplicate expired
    blocks=$(count "SELECT DISTINCT first FROM batches WHERE last <= $last AND first = last")
    jobs=$(count "SELECT j.id FROM jobs j JOIN batches b ON b.id = j.batch WHERE b.last <= $last")
    accepted=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'accepted'")
    twice=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'accepted' GROUP BY s.job HAVING count(*) > 1")
    rejected=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'rejected'")
    duplicate=$(count "SELECT s.job FROM submissions s $up_to AND verdict = 'duplicate'")
    expired=$(count "SELECT id FROM leases WHERE outcome = 'expired'")
    echo "blocks $last, with a job $blocks, jobs $jobs, accepted proofs $accepted, proven twice $twice," \
        "duplicate $duplicate, rejected $rejected, leases expired $expired"
    [ "$blocks $jobs $accepted $twice $rejected" = "$last $last $last 0 0" ] || die "not every block is proven exactly once"
}
