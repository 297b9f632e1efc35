# Functions that fetch, start and stop the servers which the tests and developers run on this machine:
# DynamoDB Local and an S3-compatible server. Sourced by bash scripts that have changed to the root of the repository.
# shellcheck shell=bash

servers_source=scripts/services.d
servers_cache=.cache
maven_dependency_plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# Says what is wrong, and what to do, on standard error.
servers_fail() {
    echo "$(basename "$0"): $*" >&2
    return 1
}

# Succeeds when Java 17 or newer is there.
need_java() {
    local version
    command -v java >/dev/null ||
        { servers_fail "java is needed for DynamoDB Local: install a JDK, 17 or newer (package openjdk-17-jdk-headless)"; return 1; }
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] ||
        { servers_fail "java is version ${version:-unknown}, but DynamoDB Local needs 17 or newer"; return 1; }
}

# fetch_server NAME: downloads the server that scripts/services.d/NAME.xml describes into .cache/NAME, once.
# What is there is complete: the directory appears under its name only when everything is in it.
fetch_server() {
    local name=$1 target=$servers_cache/$1 draft stamp
    stamp=$(cat "$servers_source/$name.xml" "$servers_source"/*.java | cksum)
    if [ -f "$target/complete" ] && [ "$(cat "$target/complete")" = "$stamp" ]; then
        return 0
    fi
    need_java || return 1
    command -v mvn >/dev/null ||
        { servers_fail "mvn is needed to fetch $name: install Maven (package maven)"; return 1; }
    mkdir -p "$servers_cache"
    draft=$(cd "$servers_cache" && mktemp -d "$PWD/$name.draft.XXXXXX") || return 1
    echo "$(basename "$0"): fetching $name with Maven" >&2
    if ! mvn --quiet --batch-mode --no-transfer-progress --file "$servers_source/$name.xml" \
        "$maven_dependency_plugin:copy-dependencies" -DincludeScope=runtime "-DoutputDirectory=$draft/lib" >"$draft/maven.log" 2>&1; then
        sed 's/^/    /' "$draft/maven.log" >&2
        rm -rf "$draft"
        servers_fail "Maven could not fetch $name (see above)"
        return 1
    fi
    if [ "$name" = dynamodb-local ]; then
        if ! command -v javac >/dev/null; then
            rm -rf "$draft"
            servers_fail "javac is needed to build the launcher of DynamoDB Local: install a whole JDK (package openjdk-17-jdk-headless)"
            return 1
        fi
        javac -cp "$draft/lib/*" -d "$draft/launcher" "$servers_source/LoopbackDynamoDb.java" || { rm -rf "$draft"; return 1; }
    fi
    echo "$stamp" >"$draft/complete"
    # A concurrent run may have been faster: then its directory stays, and this one goes.
    if [ -d "$target" ]; then
        if [ -f "$target/complete" ] && [ "$(cat "$target/complete")" = "$stamp" ]; then
            rm -rf "$draft"
            return 0
        fi
        mv "$target" "$draft.old"
    fi
    mv -T "$draft" "$target" 2>/dev/null || mv "$draft" "$target"
    rm -rf "$draft" "$draft.old"
}

# server_runs STATE NAME: succeeds when the server whose pid STATE/NAME.pid holds is alive, and is that server.
server_runs() {
    local pid
    pid=$(cat "$1/$2.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    if [ -d /proc/self ]; then
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "crawlcache.server=$2"
    else
        ps -ww -p "$pid" -o args= 2>/dev/null | grep -q "crawlcache.server=$2"
    fi 2>/dev/null
}

# server_await STATE NAME: waits until the server has said which port it has.
server_await() {
    local state=$1 name=$2
    for _ in $(seq 600); do
        [ -s "$state/$name.port" ] && return 0
        # Not server_runs: a process just made is still this script, until it becomes the server.
        kill -0 "$(cat "$state/$name.pid")" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 20 "$state/$name.log" | sed 's/^/    /' >&2
    server_stop "$state" "$name"
    servers_fail "$name did not start (its last lines are above)"
}

# server_spawn STATE NAME COMMAND...: starts a server that outlives this script and holds none of its files.
server_spawn() {
    local state=$1 name=$2
    shift 2
    rm -f "$state/$name.port"
    if command -v setsid >/dev/null; then
        setsid "$@" </dev/null >"$state/$name.log" 2>&1 &
    else
        nohup "$@" </dev/null >"$state/$name.log" 2>&1 &
    fi
    echo $! >"$state/$name.pid"
}

# dynamodb_command NAME PORT PORT_FILE [OPTION...]: sets the array `dynamodb_command` to what starts DynamoDB Local.
dynamodb_command() {
    local name=$1 port=$2 port_file=$3
    shift 3
    dynamodb_command=(env DDB_LOCAL_TELEMETRY=0 java "-Dcrawlcache.server=$name" -Xmx512m -XX:+UseSerialGC
        "-Djava.library.path=$servers_cache/dynamodb-local/lib"
        -cp "$servers_cache/dynamodb-local/launcher:$servers_cache/dynamodb-local/lib/*"
        LoopbackDynamoDb "$port" "$port_file" -disableTelemetry -sharedDb "$@")
}

# start_dynamodb STATE NAME PORT [OPTION...]: DynamoDB Local on 127.0.0.1; port 0 takes a free one.
start_dynamodb() {
    local state=$1 name=$2 port=$3
    shift 3
    dynamodb_command "$name" "$port" "$state/$name.port" "$@"
    server_spawn "$state" "$name" "${dynamodb_command[@]}"
    server_await "$state" "$name"
}

# start_s3 STATE KEY SECRET BUCKET: an S3-compatible server on a free port, with one empty bucket.
start_s3() {
    local state port
    # Relative to the working directory the server would list nothing below a prefix.
    state=$(cd "$1" && pwd)
    rm -rf "$state/s3.data"
    mkdir -p "$state/s3.data/$4"
    cat >"$state/s3.properties" <<EOF
s3proxy.endpoint=http://127.0.0.1:0
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity=$2
s3proxy.credential=$3
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir=$state/s3.data
EOF
    server_spawn "$state" s3 java -Dcrawlcache.server=s3 -Xmx512m -XX:+UseSerialGC \
        -jar "$servers_cache"/s3proxy/lib/s3proxy-*-jar-with-dependencies.jar --properties "$state/s3.properties"
    # It announces the port only in its log.
    for _ in $(seq 600); do
        port=$(sed -n 's/.*Started .*ServerConnector.*{127\.0\.0\.1:\([0-9]*\)}.*/\1/p' "$state/s3.log" | head -n 1)
        if [ -n "$port" ]; then
            echo "$port" >"$state/s3.port"
            break
        fi
        kill -0 "$(cat "$state/s3.pid")" 2>/dev/null || break
        sleep 0.05
    done
    server_await "$state" s3
}

# server_stop STATE NAME: ends the server, if it is there, and forgets it.
server_stop() {
    local state=$1 name=$2 pid
    if server_runs "$state" "$name"; then
        pid=$(cat "$state/$name.pid")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            server_runs "$state" "$name" || break
            sleep 0.05
        done
        if server_runs "$state" "$name"; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
    fi
    rm -rf "${state:?}/$name.pid" "$state/$name.port" "$state/$name.data" "$state/$name.properties"
}
