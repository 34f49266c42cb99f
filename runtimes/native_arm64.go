package runtimes

import _ "embed"

// nativeObject is built from native/fork.c by native/build.sh.
//
//go:embed native/fork_arm64.so
var nativeObject []byte
