// Package queues keeps messages until somebody has dealt with them: the queues that users have through the SQS API, and
// those in which asynchronous invocations wait for their function. A message that Send has acknowledged is given out at
// least once, over and over until it is deleted, expires, or has moved to the dead-letter queue.
//
// It knows no AWS wire form and runs no function. Names, limits and attributes are checked by its callers.
//
// What is where:
//
//	thaw-queues          one JetStream stream, a log of everything in order
//	  thaw.queue.N.m     the messages of queue number N: what the index needs is in a header, meta and body are the data
//	  thaw.queue.r       records of operations: received, given back, deleted, moved, purged; many in one, in a header
//	records of kind queue    the queues' definitions and numbers
//
// The index in memory knows of every message whether it is visible and until when it is hidden, about 100 bytes each; it is
// made anew when the store is opened, from the headers alone. A message has one newest operation, which says all that is
// to be known of it; a record is needed until each of its operations is overtaken, or its message gone from the stream.
// The collector takes from the stream what is not needed.
//
// A message is in one of three states, and on its way between them while an operation is being stored:
//
//	sent --> visible --receive--> in flight --delete--> (gone)
//	 |          ^                   |  |  \---die, or received too often--> (visible in the dead-letter queue)
//	 \-delayed--/<------return------/  |
//	            ^----visibility passes-/
//
// What an operation promises holds once it is stored: hiding takes effect in memory at once, so that nobody else gets the
// message, everything else when the record is acknowledged. A call whose context ends before leaves its outcome open.
// A move is stored in the new queue first and names where it came from, so that after a crash the one in the old queue is
// known to be superfluous.
//
// Times in memory are on a clock that counts from the opening and does not follow the machine's time of day when that is
// set; what is stored has the time of day, and how long it was meant for.
//
// Lock order: Queue.mu before all others, of which none is held while another is taken: Queues.mu, journal.mu, trash.mu,
// timers.mu, mover.mu, watched.mu, cache.mu, pipe.mu. Two queues' locks are never held together. None is held while
// something is sent to JetStream or a caller's function runs.
package queues
