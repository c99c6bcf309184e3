#!/bin/bash
# Install the Debian packages that are missing, and say which.
#
#   tools/setup.sh [--check] SET...     SET: a heading of tools/packages.txt (build, guest, check, bench)
#
# --check installs nothing: it names what is missing and the command that installs it, and exits with 1.
# Root installs directly, anyone else through sudo.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
if [ $# = 0 ]; then
    echo "usage: tools/setup.sh [--check] SET..." >&2
    exit 1
fi

# packages_of SET: the package names under its heading.
packages_of()
{
    sed 's/#.*//' "$here/packages.txt" | awk -v set="[$1]" '
        /^\[/ { in_set = ($1 == set); known = known || in_set; next }
        in_set && NF { print $1 }
        END { exit !known }' || {
        echo "tools/setup.sh: tools/packages.txt has no set '$1'" >&2
        return 1
    }
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "tools/setup.sh: not a Debian system: nothing installed; tools/packages.txt says what is needed" >&2
    exit 0
fi

missing=()
for set in "$@"; do
    wanted=$(packages_of "$set")
    for package in $wanted; do
        status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null || true)
        grep -qx installed <<<"$status" || missing+=("$package")
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Missing Debian packages: ${missing[*]}"
as_root=(env)
[ "$(id -u)" = 0 ] || as_root=(sudo env)
install=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")

if [ -n "$check" ] || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
    echo "Install them, as root, with: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

# The package lists may be absent (containers): fetch them when a package is unknown. They may also be old: fetch them
# when an install fails, and try once more. A list that fails to download is no reason to stop; the install is.
lists_know_all()
{
    local package
    for package in "${missing[@]}"; do
        apt-cache policy "$package" 2>/dev/null | grep -q '^  Candidate: [^(]' || return 1
    done
}
update()
{
    "${as_root[@]}" apt-get update </dev/null || true
}
lists_know_all || update
if ! "${install[@]}" </dev/null; then
    update
    "${install[@]}" </dev/null || {
        echo "tools/setup.sh: apt-get could not install: ${missing[*]}" >&2
        exit 1
    }
fi
