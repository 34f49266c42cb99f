// Package runtimes knows languages: which interpreters this host has (Discover), how a function version's runtime is
// started (Registry.Launch, Environ), the bootstraps that run inside environments (folder bootstrap, embedded in the
// binary), the two invoke channels (NewFrames, ServeAPI) and the output pipe (Output).
//
// It starts no process but interpreters that tell their version or compile a bootstrap, and knows nothing of isolation:
// sandbox makes the environment that a Launch describes and brings the channel's host end here.
//
// A bootstrap gets its end of a socketpair as descriptor 3, marks it close-on-exec, loads the function's module, sends
// one ready frame and then answers one invoke frame at a time; see frames.go for the frames. Its standard output and
// error are one pipe; see Output. The host never trusts a frame: lengths are bounded, memory grows with the bytes that
// have come, and every wait ends with the caller's context.
//
// Locks: Registry.preparing is held while a bootstrap is compiled; runtimeAPI.mu for a few instructions. Neither is
// taken under the other.
package runtimes
