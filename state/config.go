package state

import (
	"log/slog"
	"time"
)

// Config says where the state is and how much of it there may be. Zero values mean the defaults named here.
type Config struct {
	// Dir is the data directory; it is made if need be. It may be empty only when NATSURL is set.
	Dir string
	// NATSURL is the address of a NATS cluster with JetStream. Empty: JetStream runs inside this process, without a
	// port, and keeps its files in Dir.
	NATSURL string
	// Replicas is how many servers of a cluster keep each write. Default 1; ignored without NATSURL.
	Replicas int
	// SyncAlways waits for the disk on each write, which then also survives a power cut. Without it the disk is at
	// most SyncInterval behind; the end of the process alone, however sudden, loses nothing either way.
	SyncAlways bool
	// LogBytes bounds all logs together, bytes. Default 1 GiB.
	LogBytes int64
	// LogAge is how long a log event is kept. Default 7 days.
	LogAge time.Duration
	// LogEvents bounds the events kept of one log group. Default 100,000.
	LogEvents int64
	// DiskReserve is how many bytes of the file system stay free: a write that would go below fails with ErrFull.
	// Default 32 MiB. Ignored with NATSURL.
	DiskReserve int64
	// Log gets what the operator should know and no caller is told. Nil: dropped.
	Log *slog.Logger
}

// SyncInterval is how often the embedded engine brings what it has written to the disk.
const SyncInterval = 10 * time.Second

func (c Config) withDefaults() Config {
	if c.Replicas == 0 || c.NATSURL == "" {
		c.Replicas = 1
	}
	if c.LogBytes == 0 {
		c.LogBytes = 1 << 30
	}
	if c.LogAge == 0 {
		c.LogAge = 7 * 24 * time.Hour
	}
	if c.LogEvents == 0 {
		c.LogEvents = 100_000
	}
	if c.DiskReserve == 0 {
		c.DiskReserve = 32 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
