#!/usr/bin/env bash
# Starts DynamoDB Local for development: with Docker where an engine runs, otherwise with Java and Maven.
#
#   scripts/start-dynamodb.sh                 on port 8000, in memory; with Docker also the admin UI and Redis
#   scripts/start-dynamodb.sh --stop          stops what this script started
#
#   --port N       another port; 0 takes a free one
#   --data DIR     keeps the tables in DIR (otherwise they are in memory: --in-memory)
#   --admin        without Docker: also the admin UI on port 8001 (needs npm); --admin-port N for another port
#   --foreground   stays in the foreground until it is interrupted
#   --no-docker    Java and Maven even where Docker is; so do --port, --data, --admin and --foreground
#
# START_DYNAMODB_DIR says where process ids and logs are (.cache/start-dynamodb).
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=scripts/services.d/servers.sh
. scripts/services.d/servers.sh

admin_version=5.3.3
redis_port=6379
state=${START_DYNAMODB_DIR:-.cache/start-dynamodb}
port=8000
admin_port=8001
data=
admin=
foreground=
docker=auto
stop=

die() {
    servers_fail "$*" || exit "${status:-1}"
}
usage() {
    status=2 die "$1 (scripts/start-dynamodb.sh --help lists the options)"
}
need_number() {
    case ${2:-} in
        '' | *[!0-9]*) usage "$1 needs a port number" ;;
    esac
    if [ "${#2}" -gt 5 ] || [ "$2" -gt 65535 ]; then
        usage "$1 $2 is no port: the largest is 65535"
    fi
}

while [ $# -gt 0 ]; do
    case $1 in
        --port | --admin-port)
            need_number "$1" "${2:-}"
            if [ "$1" = --port ]; then port=$2; else admin_port=$2 admin=yes; fi
            docker=no
            shift
            ;;
        --data)
            [ -n "${2:-}" ] || usage "--data needs a directory"
            case $2 in
                /*) data=$2 ;;
                *) data=$called_from/$2 ;;
            esac
            docker=no
            shift
            ;;
        --in-memory) data= ;;
        --admin) admin=yes docker=no ;;
        --foreground) foreground=yes docker=no ;;
        --no-docker) docker=no ;;
        --stop) stop=yes ;;
        --help | -h)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
            exit 0
            ;;
        *) usage "there is no option $1" ;;
    esac
    shift
done

# Sets the array `compose` to the compose command of a running engine, or fails.
find_compose() {
    command -v docker >/dev/null && docker info >/dev/null 2>&1 || return 1
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose -f docker-compose.aws.yml)
    elif command -v docker-compose >/dev/null; then
        compose=(docker-compose -f docker-compose.aws.yml)
    else
        return 1
    fi
}

port_is_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

if [ -n "$stop" ]; then
    stopped=
    for name in admin redis dynamodb; do
        server_runs "$state" "$name" && stopped="$stopped $name"
        server_stop "$state" "$name"
    done
    if [ -f "$state/docker" ] && find_compose; then
        "${compose[@]}" stop dynamodb-admin redis dynamodb-local
        rm -f "$state/docker"
        stopped="$stopped dynamodb-local dynamodb-admin redis (Docker)"
    fi
    echo "stopped:${stopped:- nothing, for nothing ran}"
    exit 0
fi

mkdir -p "$state"

if [ "$docker" = auto ] && find_compose; then
    echo yes >"$state/docker"
    "${compose[@]}" up -d --wait dynamodb-local dynamodb-admin redis
    cat <<EOF
DynamoDB Local  http://localhost:8000   export DYNAMODB_ENDPOINT=http://localhost:8000
admin UI        http://localhost:8001
Redis           redis://localhost:6379
To stop them:   scripts/start-dynamodb.sh --stop
EOF
    exit 0
fi

if server_runs "$state" dynamodb; then
    die "it runs already, at http://127.0.0.1:$(cat "$state/dynamodb.port"): stop it first with scripts/start-dynamodb.sh --stop"
fi
if [ "$port" != 0 ] && port_is_taken "$port"; then
    die "port $port is taken by another program: free it, or take another one with --port N (--port 0 finds one)"
fi
if [ -n "$admin" ]; then
    command -v npm >/dev/null || die "npm is needed for the admin UI: install Node.js, or leave out --admin"
    if [ "$admin_port" = 0 ]; then usage "--admin-port 0 is not possible: name a port"; fi
    if port_is_taken "$admin_port"; then
        die "port $admin_port, for the admin UI, is taken by another program: take another one with --admin-port N"
    fi
fi
need_java || exit 1
fetch_server dynamodb-local || exit 1

where=(-inMemory)
if [ -n "$data" ]; then
    mkdir -p "$data" || die "cannot make the directory $data"
    where=(-dbPath "$data")
fi

if [ -n "$foreground" ]; then
    rm -f "$state/dynamodb.port"
    dynamodb_command dynamodb "$port" "$state/dynamodb.port" "${where[@]}"
    "${dynamodb_command[@]}" >"$state/dynamodb.log" 2>&1 &
    echo $! >"$state/dynamodb.pid"
    trap 'for name in admin redis dynamodb; do server_stop "$state" "$name"; done' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    server_await "$state" dynamodb
else
    start_dynamodb "$state" dynamodb "$port" "${where[@]}"
fi
endpoint=http://127.0.0.1:$(cat "$state/dynamodb.port")
echo "DynamoDB Local  $endpoint   export DYNAMODB_ENDPOINT=$endpoint"
if [ -n "$data" ]; then
    echo "                its tables are kept in $data"
else
    echo "                in memory: its tables are gone when it stops"
fi

if [ -n "$admin" ]; then
    tool=.cache/dynamodb-admin-$admin_version
    if [ ! -x "$tool/node_modules/.bin/dynamodb-admin" ]; then
        npm install --silent --no-audit --no-fund --prefix "$tool" "dynamodb-admin@$admin_version" >"$state/npm.log" 2>&1 || {
            sed 's/^/    /' "$state/npm.log" >&2
            server_stop "$state" dynamodb
            die "npm could not fetch dynamodb-admin (see above)"
        }
    fi
    # The option of node only marks the process, so that --stop knows what it ends.
    server_spawn "$state" admin env AWS_REGION=us-east-1 node --title=crawlcache.server=admin \
        "$tool/node_modules/.bin/dynamodb-admin" --host 127.0.0.1 --port "$admin_port" --dynamo-endpoint "$endpoint"
    for _ in $(seq 200); do
        if port_is_taken "$admin_port"; then
            echo "$admin_port" >"$state/admin.port"
            break
        fi
        sleep 0.1
    done
    server_await "$state" admin
    echo "admin UI        http://127.0.0.1:$admin_port"
else
    echo "admin UI        not started: --admin does, or Docker"
fi

if [ "$port" != 8000 ]; then
    echo "Redis           not started: only together with port 8000"
elif port_is_taken "$redis_port"; then
    echo "Redis           not started: port $redis_port is taken (perhaps it runs already)"
elif command -v redis-server >/dev/null; then
    server_spawn "$state" redis redis-server --bind 127.0.0.1 --port "$redis_port" --save '' --set-proc-title no \
        --syslog-ident crawlcache.server=redis
    for _ in $(seq 100); do
        if port_is_taken "$redis_port"; then
            echo "$redis_port" >"$state/redis.port"
            break
        fi
        sleep 0.1
    done
    server_await "$state" redis
    echo "Redis           redis://127.0.0.1:$redis_port"
else
    echo "Redis           not started: redis-server is not installed (crawlcache does not use it)"
fi
if [ -n "$foreground" ]; then
    echo "To stop it:     Ctrl-C"
    wait "$(cat "$state/dynamodb.pid")"
else
    echo "To stop it:     scripts/start-dynamodb.sh --stop"
fi
