// Package telemetry turns what environments do into what users read: log events with the platform's START, END and
// REPORT lines. Events are collected per environment without a lock that is shared between environments, and are
// handed to the store in batches, off the request path. When the platform is killed, what was written less than a flush
// interval (100 ms) before, and what the store had not been able to take yet, is lost; what can be read is stored.
//
// Lock order: Stream.mu, then Logs.mu; neither is held across a call to the store.
package telemetry
