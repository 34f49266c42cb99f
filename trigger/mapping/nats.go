package mapping

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"

	"thaw/state/subjects"
)

// natsSource is a subject or a stream of a NATS server as a source.
type natsSource struct {
	reader  subjects.Reader
	stop    context.CancelFunc
	running sync.WaitGroup
}

// openNATS connects to the NATS server of m. The credentials are in the variables NATS_USER and NATS_PASSWORD, NATS_TOKEN,
// or NATS_CREDS with the path of a file, each with the source's prefix.
func (l *Loop) openNATS(ctx context.Context, m *Mapping) (source, error) {
	address, err := subjects.ParseAddress(m.Source.Endpoint)
	if err != nil {
		return nil, err
	}
	variable := func(name string) string {
		if m.Source.Credentials != "" {
			name = m.Source.Credentials + "_" + name
		}
		value, _ := l.cfg.Environment(name)
		return value
	}
	reader, err := subjects.Open(ctx, subjects.Config{
		Address: address, Name: m.UUID, Log: l.cfg.Log,
		User: variable("NATS_USER"), Password: variable("NATS_PASSWORD"), Token: variable("NATS_TOKEN"), CredentialsFile: variable("NATS_CREDS"),
	})
	if err != nil {
		return nil, err
	}
	s := &natsSource{reader: reader}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // until close
	s.stop = stop
	s.running.Go(func() { reader.Run(running) })
	return s, nil
}

func (s *natsSource) receive(ctx context.Context, limit int, wait time.Duration) ([]message, error) {
	received, err := s.reader.Receive(ctx, limit, wait)
	messages := make([]message, len(received))
	for i := range received {
		r := &received[i]
		messages[i] = message{id: r.ID, handle: r.ID, body: r.Body, record: natsEvent(r)} // hidden as long as we run
	}
	return messages, err
}

func (s *natsSource) done(_ context.Context, messages []message) error {
	return s.reader.Done(handles(messages))
}

func (s *natsSource) failed(_ context.Context, messages []message) error {
	return s.reader.Failed(handles(messages))
}

func (s *natsSource) hide(_ context.Context, messages []message, d time.Duration) error {
	if d > 0 {
		return nil // what is in hand stays so
	}
	return s.reader.Return(handles(messages))
}

func (s *natsSource) backlog() int { return s.reader.Backlog() }

func (s *natsSource) receivers() int { return 1 }

func (s *natsSource) close() {
	s.stop()
	s.running.Wait()
	s.reader.Close()
}

func handles(messages []message) []string {
	all := make([]string, len(messages))
	for i := range messages {
		all[i] = messages[i].handle
	}
	return all
}

// natsRecord is one element of the Records of an event with messages of NATS. There is no such event on AWS; what it has
// in common with that of SQS is named alike.
type natsRecord struct {
	MessageID   string              `json:"messageId"` // STREAM:SEQUENCE, the same on every delivery; core NATS: made up
	EventSource string              `json:"eventSource"`
	Subject     string              `json:"subject"`
	Body        string              `json:"body"`
	Base64      bool                `json:"isBase64Encoded,omitempty"` // of a body that is no UTF-8
	Headers     map[string][]string `json:"headers,omitempty"`
	Stream      string              `json:"stream,omitempty"`
	Sequence    uint64              `json:"sequence,omitempty"`
	Deliveries  int                 `json:"deliveryCount"`
	Timestamp   *time.Time          `json:"timestamp,omitempty"` // when the stream stored it
}

func natsEvent(m *subjects.Message) []byte {
	r := natsRecord{
		MessageID: m.ID, EventSource: "nats", Subject: m.Subject, Body: string(m.Body), Headers: m.Header,
		Stream: m.Stream, Sequence: m.Sequence, Deliveries: m.Delivered,
	}
	if !utf8.Valid(m.Body) {
		r.Body, r.Base64 = base64.StdEncoding.EncodeToString(m.Body), true
	}
	if !m.Stored.IsZero() {
		utc := m.Stored.UTC()
		r.Timestamp = &utc
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(r) // nothing that can fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
