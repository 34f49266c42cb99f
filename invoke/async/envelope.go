package async

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"thaw"
)

// envelope is what is stored with an event's payload: the Meta of its message.
type envelope struct {
	RequestID string `json:"id"`
	Qualifier string `json:"q,omitempty"`     // as the caller gave it
	Trace     string `json:"trace,omitempty"` // X-Amzn-Trace-Id with its lineage, which stops recursive loops
	Accepted  int64  `json:"at"`              // Unix time, ms; maximum ages count from here
	// Kept is how the function wanted failures handled when the event was accepted. It counts when the function is gone.
	Kept *kept  `json:"kept,omitempty"`
	Dead *death `json:"dead,omitempty"` // in events-dead only
}

// kept is a function's configuration for an event, without what is the default.
type kept struct {
	MaxAge     *int   `json:"max_age,omitempty"`
	MaxRetries *int   `json:"max_retries,omitempty"`
	OnSuccess  string `json:"on_success,omitempty"`
	OnFailure  string `json:"on_failure,omitempty"`
	DeadLetter string `json:"dead_letter,omitempty"`
}

// death says how an event ended that nothing took.
type death struct {
	At        int64  `json:"at"` // Unix time, ms
	Condition string `json:"condition"`
	Reason    string `json:"reason"` // why it was delivered nowhere
	Attempts  int    `json:"attempts"`
	Error     string `json:"error,omitempty"` // of the last attempt
}

// progress is what is known of an event's attempts: the note of its message.
type progress struct {
	Attempts  int    `json:"n,omitempty"` // that the function failed, or that found no function
	Throttles int    `json:"t,omitempty"` // attempts in a row that found no room, or the function not ready
	Next      int64  `json:"next"`        // when it is tried again, Unix time, ms
	Status    int    `json:"status,omitempty"`
	Version   string `json:"v,omitempty"`
	Error     string `json:"error,omitempty"` // of the last attempt, at most maxError bytes
}

// maxError bounds an error's text, bytes: AWS truncates the ErrorMessage of a dead letter to 1 KB.
const maxError = 1024

func decodeEnvelope(data []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("what is stored of an event is damaged: %w", err)
	}
	if e.RequestID == "" || e.Accepted <= 0 {
		return e, fmt.Errorf("what is stored of an event is damaged: no request id or no time in %.200q", data)
	}
	return e, nil
}

// decodeProgress reads a note. A damaged one counts as none: the event is attempted anew.
func decodeProgress(data []byte) (p progress) {
	if len(data) == 0 || json.Unmarshal(data, &p) != nil || p.Attempts < 0 || p.Throttles < 0 {
		return progress{}
	}
	return p
}

// encode is json.Marshal for what always encodes.
func encode(v any) []byte {
	data, _ := json.Marshal(v) //nolint:errchkjson // strings and numbers alone
	return data
}

// cut shortens a text to at most limit bytes, at a character's border, and makes it valid UTF-8 without control
// characters, which attributes of SQS messages cannot have.
func cut(s string, limit int) string {
	if len(s) > limit {
		end := limit
		for end > limit-utf8.UTFMax && end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\t' && r != '\n' && r != '\r' {
			return '?'
		}
		return r
	}, s)
}

// handling is how an event of a qualifier is dealt with.
type handling struct {
	maxAge     time.Duration
	maxRetries int
	onSuccess  string // ARN, empty: none
	onFailure  string // ARN, empty: none
	deadLetter string // ARN, empty: none
}

// Defaults of AWS's FunctionEventInvokeConfig.
const (
	defaultMaxAge     = 6 * time.Hour
	defaultMaxRetries = 2
)

// keep notes what a function wants now; nil where all of it is the default.
func keep(f *thaw.Function, qualifier string) *kept {
	q := qualifier
	if q == "" {
		q = thaw.Latest
	}
	c := f.EventInvoke[q]
	k := kept{MaxAge: c.MaxAge, MaxRetries: c.MaxRetries, OnSuccess: c.OnSuccess, OnFailure: c.OnFailure}
	if a, ok := f.Aliases[q]; ok {
		q = a.Version
	}
	if v := f.Version(q); v != nil {
		k.DeadLetter = v.DeadLetter
	}
	if k == (kept{}) {
		return nil
	}
	return &k
}

// handling gives what holds for an event now: what the function wants, or wanted where it or the qualifier is gone.
func (e *envelope) handling(f *thaw.Function) handling {
	k := e.Kept
	if f != nil && has(f, e.Qualifier) {
		k = keep(f, e.Qualifier)
	}
	h := handling{maxAge: defaultMaxAge, maxRetries: defaultMaxRetries}
	if k == nil {
		return h
	}
	if k.MaxAge != nil {
		h.maxAge = time.Duration(*k.MaxAge) * time.Second
	}
	if k.MaxRetries != nil {
		h.maxRetries = *k.MaxRetries
	}
	h.onSuccess, h.onFailure, h.deadLetter = k.OnSuccess, k.OnFailure, k.DeadLetter
	return h
}

// has reports whether a function has what a qualifier names.
func has(f *thaw.Function, qualifier string) bool {
	if qualifier == "" {
		return true
	}
	_, alias := f.Aliases[qualifier]
	return alias || f.Version(qualifier) != nil
}
