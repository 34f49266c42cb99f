// Package cli is the command line of thaw: one file per verb. Every verb that talks to a platform does so over HTTP
// only, with the Lambda API where it has an operation and with the native API under /_thaw/ otherwise, so that each verb
// works the same against a platform on another machine. What needs this machine itself (starting the platform,
// looking at its capabilities) is handed in by the caller of Run.
//
// Data goes to standard output; progress, notes and errors go to standard error. With --json every verb writes
// JSON with a "version" member, which changes when a member is renamed, removed or changes its meaning.
//
// The package keeps no state: streams, environment variables, build version and exit code all pass through Run, which
// never ends the process.
package cli
