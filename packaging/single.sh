#!/bin/sh
# gatewayctl @VERSION@ for Linux on @ARCH@: a folder in one file. The first start unpacks it into a folder of its own, later ones
# find it there; the program replaces this shell, so that no process waits and nothing is to be cleared away when it is killed.
# Needs tar and gzip. Nothing runs in /tmp. GATEWAYCTL_UNPACK names another place; a folder there may be deleted at any time.
name=@VERSION@-@SUM@

fail() {
    echo "gatewayctl: $1" >&2
    exit 1
}

# Unpacks into $1: whole or not at all, whatever happens meanwhile.
unpack() {
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] || return 1
    for left in "$1"/.unpacking-*; do
        [ -d "$left" ] && ! kill -0 "${left##*-}" 2>/dev/null && rm -rf "$left"
    done
    half=$1/.unpacking-$$
    mkdir "$half" || return 1
    trap 'rm -rf "$half"' EXIT
    trap 'exit 1' HUP INT TERM
    said=$(tail -n +@LINES@ "$file" | tar -xzof - -C "$half" 2>&1) ||
        fail "$file is damaged, or $1 is full (GATEWAYCTL_UNPACK names another place): $(printf '%s\n' "$said" | sed "/./!d; q")"
    [ -x "$half/gatewayctl" ] || { rm -rf "$half"; return 1; } # nothing may be executed there
    mv -T "$half" "$1/$name" 2>/dev/null || [ -d "$1/$name" ] || return 1
    rm -rf "$half"
    trap - EXIT HUP INT TERM
}

mask=$(umask)
file=$0
if [ -n "${GATEWAYCTL_UNPACK-}" ]; then
    first=$GATEWAYCTL_UNPACK second=
elif [ "$(id -u)" = 0 ]; then
    first=/var/cache/gatewayctl second=/opt/gatewayctl
else
    first=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/gatewayctl second=$(dirname "$file")/.gatewayctl
fi
for base in "$first" "$second"; do
    [ -n "$base" ] || continue
    if [ ! -x "$base/$name/gatewayctl" ]; then
        [ "$(uname -m)" = @ARCH@ ] || fail "this file is for @ARCH@; this machine is $(uname -m)"
        umask 022
        unpack "$base" || continue
    fi
    [ -O "$base/$name" ] || fail "$base/$name belongs to somebody else; delete it, or set GATEWAYCTL_UNPACK"
    umask "$mask"
    exec "$base/$name/gatewayctl" "$@"
done
fail "nothing can be unpacked and executed in $first${second:+ or $second}; set GATEWAYCTL_UNPACK to a folder where it can"
