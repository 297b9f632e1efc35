#!/usr/bin/env bash
# Lays out the root directory of the container image: the program, the libraries that it loads, certificates, a user.
#
#   deploy/image/root.sh BINARY DIRECTORY
#
# Run by the Dockerfile; a test runs it too, and starts the program inside.
set -euo pipefail

binary=$1
root=$2
user=65532

mkdir -p "$root/etc/ssl/certs" "$root/data" "$root/tmp"
install -m 0755 "$binary" "$root/crawlcache"

# The loader's own list, so that a library which a new dependency needs cannot be forgotten.
libraries=$(ldd "$binary" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p')
if ldd "$binary" | grep 'not found'; then
    echo "root.sh: $binary needs a library that is not here (see above)" >&2
    exit 1
fi
for library in $libraries; do
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
done

cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
echo "crawlcache:x:$user:$user:crawlcache:/data:/sbin/nologin" >"$root/etc/passwd"
echo "crawlcache:x:$user:" >"$root/etc/group"
chmod 1777 "$root/tmp"
chmod 0700 "$root/data"
if [ "$(id -u)" = 0 ]; then
    chown "$user:$user" "$root/data"
fi
