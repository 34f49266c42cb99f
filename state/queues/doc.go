// Package queues keeps messages until somebody has dealt with them: the queues that users have through the SQS API, and
// those in which asynchronous invocations wait for their function. A message that Send has acknowledged is given out at
// least once, over and over until it is deleted, expires, or has moved to the dead-letter queue.
//
// It knows no AWS wire form and runs no function. Names, limits and attributes are checked by its callers.
package queues
