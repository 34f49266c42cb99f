// Package telemetry turns what environments do into what users read: log events with the platform's START, END and
// REPORT lines. Events are collected per environment without a lock that is shared between environments, and are
// handed to the store in batches, off the request path.
//
// Lock order: Stream.mu, then Logs.mu; neither is held across a call to the store.
package telemetry
