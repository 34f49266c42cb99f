// Package state keeps what must outlive the process: functions, small records of other services, deployment packages
// and logs. Everything is in NATS JetStream, embedded in the process without a port, or in a cluster named by a URL.
//
// It is not a cache of code on disk (package code), it knows no AWS wire form, and it decides nothing: it stores what it
// is told and says what changed.
//
// What is where:
//
//	KV  thaw-functions   one JSON document per function; revisions are the stream's sequence numbers
//	KV  thaw-records     one JSON document per record, key KIND.KEY; also the commit marks of packages
//	    thaw-code        chunks of packages, subject thaw.code.DIGEST.N
//	    thaw-logs        log events, subject thaw.log.GROUP, oldest dropped first
//	    thaw-invocations batches of invocation records, subject thaw.invocation.SHELF, oldest dropped first
//	    thaw-profiles    profiles of inits, subject thaw.profile.FUNCTION.VERSION, the newest of each
//
// Writes go to the stream first and, once acknowledged, into the catalog in memory. The feed of the functions bucket
// brings the same write again, and those of other nodes; for each name the newest revision wins, so that the two ways
// may arrive in either order.
//
// An acknowledged write is in the kernel's page cache at least, so that kill -9 cannot take it; Config.SyncAlways
// demands the disk, which a power cut cannot take either.
//
// Lock order: catalog.mu before watcher.mu. Neither is held while something is sent to JetStream or a caller's function
// runs.
package state
