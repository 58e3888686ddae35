#!/bin/bash
# Makes what compose.yml must have and git must not: passwords, keys and tokens, in deploy/compose/secrets. What is there already stays.
# The tokens are rows of the database, so this starts it. COMPOSE (docker compose) may be podman-compose.
set -euo pipefail
umask 077
cd "$(dirname "$0")"
read -ra compose <<<"${COMPOSE:-docker compose} -f compose.yml"

# The folder is its owner's alone. The files in it are readable, because containers see them under other user ids.
mkdir -p secrets
random() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }
# Writes $2 to the file $1, unless there is something. A kill at any time leaves the old file or the new one.
keep() {
    if [ -s "secrets/$1" ]; then return; fi
    printf '%s\n' "$2" >secrets/.new
    chmod 644 secrets/.new
    mv secrets/.new "secrets/$1"
}
keep db.password "$(random 24)"
keep grafana.password "$(random 24)"
user=prover-$(random 4) password=$(random 24)
keep s3.env "MINIO_ROOT_USER=$user
MINIO_ROOT_PASSWORD=$password
MC_HOST_store=http://$user:$password@s3:9000"
keep server.env "PROVER_SERVER_DATABASE=postgres://prover:$(cat secrets/db.password)@db/prover
AWS_ACCESS_KEY_ID=$(sed -n 's/^MINIO_ROOT_USER=//p' secrets/s3.env)
AWS_SECRET_ACCESS_KEY=$(sed -n 's/^MINIO_ROOT_PASSWORD=//p' secrets/s3.env)"

# A file must be there before a container can have it as a secret.
for name in viewer client-1 client-2; do touch "secrets/$name.token"; done
"${compose[@]}" up --detach --wait db
for name in viewer client-1 client-2; do
    if [ -s "secrets/$name.token" ]; then continue; fi
    token=$("${compose[@]}" run --rm --no-deps -T server-1 tokens create --name "$name" --role "${name%%-*}" --json |
        sed -n 's/.*"token":"\([^"]*\)".*/\1/p')
    if [ -z "$token" ]; then
        echo "no token was made for $name" >&2
        exit 1
    fi
    keep "$name.token" "$token"
done
echo "secrets are in $PWD/secrets"
