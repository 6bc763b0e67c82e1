#!/bin/bash
# `make packages` on an old base, where there is a Debian mirror but no container engine: a Debian 11 (glibc 2.31) in a folder, with a
# Python built in it from Debian 12's source packages. What comes out needs glibc 2.28 or older; packaging/glibc.py checks that.
# As root: packaging/oldbase/debian.sh FOLDER MIRROR, the address of a Debian mirror. Needs debootstrap, dpkg-dev and apt. About 15 minutes, once; then 3.
set -euo pipefail
base=$(realpath -m "$1") mirror=${2:?the address of a Debian mirror}
project=$(realpath "$(dirname "$0")/../..")

# -- the base
[ -x "$base/usr/bin/gcc" ] || debootstrap --variant=minbase \
    --include=build-essential,ca-certificates,git,libbz2-dev,libexpat1-dev,libffi-dev,liblzma-dev,libmpdec-dev,perl,uuid-dev,zlib1g-dev bullseye "$base" "$mirror"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt; do # pip in there as out here
    if [ -e "$file" ]; then mkdir -p "$base$(dirname "$file")" && cp -rL "$file" "$base$(dirname "$file")/"; fi
done
mountpoint -q "$base/proc" || mount -t proc proc "$base/proc"
trap 'umount "$base/proc"' EXIT

# -- OpenSSL and Python, with Debian's security fixes; apt checks the signatures
if [ ! -x "$base/opt/python/bin/python3.11" ]; then
    mkdir -p "$base/src/apt/lists"
    echo "deb-src $mirror bookworm main" > "$base/src/apt/sources.list"
    from=(-o "Dir::Etc::SourceList=$base/src/apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::lists=$base/src/apt/lists")
    apt-get "${from[@]}" update -qq
    (cd "$base/src" && rm -rf python3.11-* openssl-* && apt-get "${from[@]}" source -qq python3.11 openssl)
    cp "$project/packaging/oldbase/oldest.h" "$project/packaging/oldbase/python.sh" "$base/src/"
    chroot "$base" bash /src/python.sh
fi

# -- the packages
rm -rf "$base/build" && mkdir "$base/build"
git -C "$project" archive HEAD | tar -x -C "$base/build"
cp "$project"/gateway/tokens/vocabularies/*.tiktoken "$base/build/gateway/tokens/vocabularies/" 2>/dev/null || true
SOURCE_DATE_EPOCH=$(git -C "$project" log -1 --format=%ct) chroot "$base" \
    make -C /build packages PYTHON=/opt/python/bin/python3.11
chroot "$base" /build/build/venv/bin/python /build/packaging/glibc.py --most 2.28 /build/dist/gateway
mkdir -p "$project/dist" && rm -rf "$project/dist/gateway" && cp -r "$base"/build/dist/* "$project/dist/"
