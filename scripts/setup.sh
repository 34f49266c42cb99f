#!/usr/bin/env bash
# Installs what is missing, and only that: the interpreters that functions run on, and for "test" a C compiler, which
# the race detector needs, and the clients that the tests use. Not root: says exactly what to install.
set -euo pipefail

purpose=${1:-run}
packages=()

need() { # COMMAND PACKAGE...
	command -v "$1" >/dev/null 2>&1 || packages+=("${@:2}")
}

need python3 python3
need node nodejs
need npm npm
need ruby ruby
# The example takes boto3 from Debian's package, whatever python3 is first in PATH.
[ -d /usr/lib/python3/dist-packages/boto3 ] || packages+=(python3 python3-boto3)
if [ "$purpose" = test ]; then
	need gcc gcc libc6-dev
	need aws awscli
	need curl curl
fi

if [ ${#packages[@]} -eq 0 ]; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "setup: missing here: ${packages[*]}" >&2
	echo "  next: sudo apt-get install --no-install-recommends ${packages[*]}" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing here: ${packages[*]} (the names of Debian's packages); there is no apt-get to install them with" >&2
	exit 1
fi
echo "setup: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "setup: apt-get could not install ${packages[*]}" >&2
	exit 1
fi
