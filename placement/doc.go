// Package placement decides which environment serves a request, makes environments and ends them. Today the choices are
// an idle environment, or a boot; a request that waits for a boot takes whichever is ready first, the boot or an
// environment that became free, and a boot that nobody waits for any more becomes a spare.
//
// It also carries out what the control API has written: it watches the store, brings a new version's code to this
// node, and only then marks the version Active or its update Successful. A crash between the two loses nothing, since
// the watch begins with what is there.
//
// Everything is kept by version in force: $LATEST and the published versions that are Active. Some of their environments
// are provisioned concurrency, made ahead and kept apart (capacity). What nobody uses becomes Inactive.
//
// Lock order: Placer.planning, then Placer.mu, then fleet.mu. None is held across a system call, nor across a call to another package.
package placement
