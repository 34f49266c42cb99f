#!/bin/sh
# Builds the program that starts external extensions for each architecture, and records the digest of what it was built
# from and of what came out, so that a test can tell when the artefacts are stale.
#   build.sh [DIR]   writes into DIR, by default into the directory of this script
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
flags="-std=gnu11 -Os -static -nostdlib -ffreestanding -fno-builtin -fno-stack-protector -fno-asynchronous-unwind-tables
  -fno-pie -no-pie -Wall -Wextra -Werror -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro -s"
build() { # architecture, compiler, further flags
	command -v "$2" >/dev/null || { echo "build.sh: $2 is not installed: apt-get install gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
	"$2" $flags $3 -o "$out/launch_$1" "$here/launch.c"
	chmod 0644 "$out/launch_$1"
}
build amd64 x86_64-linux-gnu-gcc "-fcf-protection=none"
build arm64 aarch64-linux-gnu-gcc "-mno-outline-atomics"
{
	echo "compiler $(x86_64-linux-gnu-gcc --version | head -n1)"
	for f in launch.c build.sh; do echo "$f $(sha256sum <"$here/$f" | cut -d' ' -f1)"; done
	for f in launch_amd64 launch_arm64; do echo "$f $(sha256sum <"$out/$f" | cut -d' ' -f1)"; done
} >"$out/SHA256"
