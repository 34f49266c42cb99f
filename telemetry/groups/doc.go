// Package groups keeps CloudWatch Logs' groups and streams: what there is, since when, how much of it, and where in the
// store's one sequence of batches the events of a time lie. It reads events in the order of their times, which is not
// the order in which they were stored, follows groups, and deletes.
//
// The store's sequence is the journal: batches of events, and entries for streams that were created, and for streams and
// groups that were deleted, each with a description in its header. The Index is a fold over these descriptions. One
// goroutine follows them, off the path on which logs are written; a snapshot in a file spares the next start all but those
// that came since. What the store drops by age or size, the index drops after it.
//
// What nobody can tell from the events, such as retention and tags, is in Settings, a record for each group that has any.
//
// Locks: Index.mu, never held across a call; Index.sweeping before it, held by the one sweep.
package groups
