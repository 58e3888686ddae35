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
