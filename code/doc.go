// Package code turns deployment packages and layers into directories. An archive is taken as hostile: Check says before it is
// stored whether it can be unpacked, in AWS's words, and Cache unpacks it where environments find it, once per digest.
//
// It does not keep the packages themselves (package state does) and does not look at what is in the files.
//
// An archive is judged as a whole before a byte is written: how many entries, what their names are, whether they agree
// on what is a file and what a directory, where links lead, whether their data overlaps. What only inflating can tell,
// the true sizes and checksums, is measured while inflating. Writing goes through os.Root, so that a mistake in the
// judgement would still not reach a file outside of the tree.
//
// The life of a tree in the cache:
//
//	partial/ID  --unpacked, digest right: rename-->  trees/DIGEST.SIZE  --evicted: rename-->  partial/ID  --> gone
//
// A name in trees is therefore always a whole tree, and everything in partial is rubbish when the cache is opened.
package code
