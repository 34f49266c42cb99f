#!/bin/sh
# Builds the shared object that forks interpreters for each architecture, and records the digest of what it was built
# from and of what came out, so that a test can tell when the artefacts are stale.
#   build.sh [DIR]   writes into DIR, by default into the directory of this script
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
flags="-std=gnu11 -O2 -fPIC -shared -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE -Wall -Wextra -Werror
  -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,relro -Wl,-soname,fork.so -s"
build() { # architecture, compiler
	command -v "$2" >/dev/null || { echo "build.sh: $2 is not installed: apt-get install gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
	"$2" $flags -o "$out/fork_$1.so" "$here/fork.c"
	chmod 0644 "$out/fork_$1.so"
}
build amd64 x86_64-linux-gnu-gcc
build arm64 aarch64-linux-gnu-gcc
{
	echo "compiler $(x86_64-linux-gnu-gcc --version | head -n1)"
	for f in fork.c build.sh; do echo "$f $(sha256sum <"$here/$f" | cut -d' ' -f1)"; done
	for f in fork_amd64.so fork_arm64.so; do echo "$f $(sha256sum <"$out/$f" | cut -d' ' -f1)"; done
} >"$out/SHA256"
