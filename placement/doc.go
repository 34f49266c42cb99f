// Package placement decides which environment serves a request, makes environments and ends them. Its choices are an idle
// environment, a spare, a fork of the version's template, or a boot; a request that waits for a start takes whichever is
// ready first, the start or an environment that became free, and a start that nobody waits for any more becomes a spare.
//
// The life of an environment, as fleet.move enforces it:
//
//	          ┌──────────────▶ spare ─────────┐
//	          │                  │  ▲         │
//	          │                  ▼  │         │
//	starting ─┼──────────────▶ busy           ├──▶ over (being closed)
//	   │      │                  ▲  │         │
//	   │      │                  │  ▼         │
//	   │      └──────────────▶ idle ──────────┤
//	   └──────────────────────────────────────┘
//
// A spare has served nothing; it goes back to being one when its request left before it served. Provisioned environments
// are idle from the start. Busy ones end too, when they break, and when the platform does. Whether a parked environment is
// frozen is package sandbox's to know: its own machine lies below this one, and Claim thaws.
//
// Orders for environments wait in one lane per function, and the lanes take turns for the starters and for room: places
// and memory. Where the node is full, the parked environment that is worth least ends; where nothing is parked, a function
// that has more environments than one that waits gives one up as it becomes free; and what has waited for too long is
// refused. A place is given again only when the environment that had it is closed.
//
// It also carries out what the control API has written: it watches the store, brings a new version's code to this
// node, and only then marks the version Active or its update Successful. A crash between the two loses nothing, since
// the watch begins with what is there.
//
// Everything is kept by version in force: $LATEST and the published versions that are Active. Some of their environments
// are provisioned concurrency, made ahead and kept apart (capacity). What nobody uses becomes Inactive.
//
// Lock order: Placer.planning, then Placer.mu, then fleet.mu or orders.mu. None is held across a system call, nor across a
// call that may wait.
package placement
