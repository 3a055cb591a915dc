#!/bin/sh
# Install the Debian or Ubuntu packages given as arguments, where they are missing and that is allowed.
set -u
command -v dpkg-query >/dev/null 2>&1 || exit 0 # another system: its own packages have other names

missing=""
for name in "$@"; do
    found=""
    # Newer releases carry some libraries under a name ending in t64.
    for candidate in "$name" "${name}t64"; do
        dpkg-query -W -f '${Status}' "$candidate" 2>/dev/null | grep -q 'ok installed' && found=yes
    done
    [ -n "$found" ] || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    run=""
elif sudo -n true 2>/dev/null; then
    run="sudo"
else
    echo "These system packages are missing; install them with: sudo apt-get install$missing" >&2
    exit 0
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq || true
# shellcheck disable=SC2086
$run apt-get install -y -qq --no-install-recommends $missing >/dev/null
