package queues

import (
	"encoding/json"
	"time"
)

// Options is what a queue does by itself. Durations of zero mean none, not a default.
type Options struct {
	FIFO       bool          `json:"fifo,omitempty"`       // order within a group
	Delay      time.Duration `json:"delay,omitempty"`      // of messages that do not bring their own
	Visibility time.Duration `json:"visibility,omitempty"` // how long a received message is hidden
	Retention  time.Duration `json:"retention,omitempty"`  // a message older than this is dropped; 0: never
	// After MaxReceives receives a message goes to the queue named DeadLetter instead of being given out again. Empty: it stays.
	DeadLetter  string `json:"dead_letter,omitempty"`
	MaxReceives int    `json:"max_receives,omitempty"`
	// GroupDedup makes deduplication count within a message group instead of the whole queue (SQS's DeduplicationScope).
	GroupDedup bool `json:"group_dedup,omitempty"`
	// MaxInFlight bounds the messages that are received and not deleted; Receive gives ErrInFlight above. 0: 120,000.
	MaxInFlight int `json:"max_in_flight,omitempty"`
}

// DeduplicationWindow is for how long a queue remembers deduplication ids, SQS's own figure.
const DeduplicationWindow = 5 * time.Minute

// Info describes a queue. Meta is its owner's; this package only keeps it.
type Info struct {
	Name     string          `json:"name"`
	Options  Options         `json:"options"`
	Meta     json.RawMessage `json:"meta,omitempty"`
	Created  time.Time       `json:"created"`
	Modified time.Time       `json:"modified"`
}

// Message is what is sent.
type Message struct {
	Body []byte // with Meta at most MaxMessage
	Meta []byte // its owner's: message attributes, an invocation's envelope
	// Delay of this message; nil: the queue's. FIFO queues have only the queue's.
	Delay *time.Duration
	Group string // FIFO: order is kept within it
	// Dedup is the deduplication id: where the queue has accepted one with the same within DeduplicationWindow, the message
	// is not stored again. Empty: it has none. Those of the SQS API are for FIFO queues alone.
	Dedup string
	ID    string // empty: one is made
}

// Bounds of what a queue takes.
const (
	MaxMessage = 7 << 20  // body and meta of a message together, bytes
	MaxNote    = 16 << 10 // bytes
	MaxID      = 256      // of a group, a deduplication id, a message id and a queue's name, bytes each
)

// Sent is what became of one message.
type Sent struct {
	ID        string
	Sequence  uint64 // rises within the queue
	Duplicate bool   // the queue has accepted it before, by its Dedup; ID and Sequence are the first one's
	Err       error  // it was not accepted; everything else is zero then
}

// Received is a message as it is given out.
type Received struct {
	ID            string
	Sequence      uint64
	Body          []byte
	Meta          []byte
	Group, Dedup  string
	Note          []byte    // what the last Return left
	Sent          time.Time // milliseconds are kept
	FirstReceived time.Time
	Receives      int    // this one included
	DeadFrom      string // name of the queue that it died in, empty if it was sent here
	// Handle is what Delete and the like know this receive by. An older one of the same message works on standard queues,
	// as SQS has it, and not on FIFO queues once the visibility timeout has passed.
	Handle string
}

// Depth is how much a queue holds. Numbers are exact at the time of asking.
type Depth struct {
	Visible  int // to be received now
	InFlight int // received and neither deleted nor visible again, or on their way to a dead-letter queue
	Delayed  int
	Bytes    int64     // what they take on disk, nearly
	Oldest   time.Time // when the oldest visible one was sent, on a standard queue the next to be received; zero: none is visible
}
