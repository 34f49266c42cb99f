// Package records keeps the record of every finished invocation, and the profiles of inits, for a set time and size. The
// request path hands a record over with Add, which copies it and does nothing else; Run passes records on in batches, to
// the sinks that were handed in and to the store, at least every 100 ms. It explains nothing: package anatomy does.
//
// When the platform is killed, what ended less than 100 ms before is lost. What cannot be kept, since the store is behind or
// failed, is counted.
//
// Records are stored in batches of many functions, on 16 shelves by the hash of the function's name, those of warm
// invocations apart from the others: a node with a thousand busy functions then stores a few batches each time, and what looks
// for the starts of one function reads little.
//
// Lock order: a shard's mutex is taken alone.
package records
