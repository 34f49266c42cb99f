package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"

	"thaw"
	"thaw/state"
)

const (
	// format begins each batch and each profile; a form that is not compatible gets another one.
	format = 1
	// shelves is into how many parts the functions are divided.
	shelves = 16
	// maxBatch is how many records one batch has at most: some 200 KB before it is compressed.
	maxBatch = 1024
	// maxUnpacked bounds what a batch or profile becomes, bytes.
	maxUnpacked = 16 << 20
)

// errDamaged: what was stored cannot be read.
var errDamaged = errors.New("damaged record")

// stored is a record in the store. The numbers are the format: one that was used is never used for something else.
// Lengths of time are in µs. What is not there is zero.
type stored struct {
	ID         []byte  `cbor:"1,keyasint"` // see packID
	Function   string  `cbor:"2,keyasint"`
	Version    string  `cbor:"3,keyasint,omitempty"` // empty: $LATEST
	Alias      string  `cbor:"4,keyasint,omitempty"`
	Flags      uint64  `cbor:"5,keyasint,omitempty"`
	Start      int64   `cbor:"6,keyasint"` // Unix time
	Kind       string  `cbor:"7,keyasint,omitempty"`
	Cause      string  `cbor:"8,keyasint,omitempty"`
	Phases     []int64 `cbor:"9,keyasint,omitempty"` // of each phase that took time: its number, start and length
	Duration   int64   `cbor:"10,keyasint,omitempty"`
	Init       int64   `cbor:"11,keyasint,omitempty"`
	Restore    int64   `cbor:"12,keyasint,omitempty"`
	BilledInit int64   `cbor:"13,keyasint,omitempty"` // of the restore
	Billed     int64   `cbor:"14,keyasint,omitempty"`
	Memory     int     `cbor:"15,keyasint,omitempty"`
	MaxMemory  int     `cbor:"16,keyasint,omitempty"`
	ErrorType  string  `cbor:"17,keyasint,omitempty"`
	Env        []byte  `cbor:"18,keyasint,omitempty"`
	Trace      string  `cbor:"19,keyasint,omitempty"`
	Node       string  `cbor:"20,keyasint,omitempty"`
	Profile    []byte  `cbor:"21,keyasint,omitempty"`
	EventAge   int64   `cbor:"22,keyasint,omitempty"`
	FailedInit int64   `cbor:"23,keyasint,omitempty"`
}

// Bits of stored.Flags.
const (
	flagProvisioned = 1 << iota
	flagSpilledOver
	flagFailed
	flagTimedOut
	flagCrashed
	flagAsync
	flagNodeFull
)

// flagsOf lists the bits with the fields that they stand for.
func flagsOf(i *thaw.Invocation) []*bool {
	return []*bool{&i.Provisioned, &i.SpilledOver, &i.Failed, &i.TimedOut, &i.Crashed, &i.Async, &i.NodeFull}
}

// pack makes batches of records, by shelf.
func pack(records []thaw.Invocation) []state.InvocationBatch {
	type open struct {
		data  bytes.Buffer
		enc   *cbor.Encoder
		count int
	}
	byShelf := map[string]*open{}
	var batches []state.InvocationBatch
	finish := func(shelf string, o *open) {
		batches = append(batches, state.InvocationBatch{Shelf: shelf, Data: compress(o.data.Bytes())})
		delete(byShelf, shelf)
	}
	for i := range records {
		shelf := shelfOf(records[i].Function, records[i].Kind == thaw.StartWarm)
		o := byShelf[shelf]
		if o == nil {
			o = &open{}
			o.enc = cbor.NewEncoder(&o.data)
			byShelf[shelf] = o
		}
		_ = o.enc.Encode(toStored(&records[i])) // numbers, text and bytes into memory
		if o.count++; o.count == maxBatch {
			finish(shelf, o)
		}
	}
	for shelf, o := range byShelf {
		finish(shelf, o)
	}
	return batches
}

func compress(data []byte) []byte {
	out := make([]byte, 1, 1+s2.MaxEncodedLen(len(data)))
	out[0] = format
	return append(out, s2.Encode(out[1:cap(out)], data)...)
}

// expand undoes compress.
func expand(data []byte) ([]byte, error) {
	if len(data) == 0 || data[0] != format {
		return nil, fmt.Errorf("%w: its format is not known", errDamaged)
	}
	n, err := s2.DecodedLen(data[1:])
	if err == nil && n > maxUnpacked {
		err = fmt.Errorf("it would be of %d bytes", n)
	}
	if err == nil {
		data, err = s2.Decode(nil, data[1:])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return data, nil
}

// unpack calls fn for each record of a batch, and ends with its first error.
func unpack(data []byte, fn func(*thaw.Invocation) error) error {
	return unpackWith(data, nil, fn)
}

// unpackWith is unpack for a batch that may hold the given bytes; another one is passed over quickly.
func unpackWith(data, needle []byte, fn func(*thaw.Invocation) error) error {
	data, err := expand(data)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, needle) {
		return nil
	}
	for len(data) > 0 {
		var s stored
		if data, err = cbor.UnmarshalFirst(data, &s); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		i, err := s.invocation()
		if err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

func toStored(i *thaw.Invocation) *stored {
	s := &stored{
		ID: packID(i.RequestID), Function: i.Function, Version: i.Version, Alias: i.Alias, Start: i.Start.UnixMicro(),
		Kind: string(i.Kind), Cause: string(i.Cause), Duration: i.Duration.Microseconds(), Init: i.InitDuration.Microseconds(),
		Restore: i.RestoreDuration.Microseconds(), BilledInit: i.BilledRestore.Microseconds(), Billed: i.Billed.Microseconds(),
		Memory: i.MemorySize, MaxMemory: i.MaxMemoryUsed, ErrorType: i.ErrorType, Env: packID(i.EnvironmentID), Trace: i.TraceID,
		Node: i.Node, Profile: packID(i.ProfileID), EventAge: i.EventAge.Microseconds(), FailedInit: i.FailedInit.Microseconds(),
	}
	if s.Version == thaw.Latest {
		s.Version = ""
	}
	for bit, set := range flagsOf(i) {
		if *set {
			s.Flags |= 1 << bit
		}
	}
	for phase, span := range i.Phases {
		if span.Length != 0 {
			s.Phases = append(s.Phases, int64(phase), span.Start.Microseconds(), span.Length.Microseconds())
		}
	}
	return s
}

func (s *stored) invocation() (*thaw.Invocation, error) {
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	i := &thaw.Invocation{
		RequestID: unpackID(s.ID), Function: s.Function, Version: s.Version, Alias: s.Alias, Start: time.UnixMicro(s.Start).UTC(),
		Kind: thaw.StartKind(s.Kind), Cause: thaw.Cause(s.Cause), Duration: us(s.Duration), InitDuration: us(s.Init),
		RestoreDuration: us(s.Restore), BilledRestore: us(s.BilledInit), Billed: us(s.Billed), MemorySize: s.Memory,
		MaxMemoryUsed: s.MaxMemory, ErrorType: s.ErrorType, EnvironmentID: unpackID(s.Env), TraceID: s.Trace,
		Node: s.Node, ProfileID: unpackID(s.Profile), EventAge: us(s.EventAge), FailedInit: us(s.FailedInit),
	}
	if i.Version == "" {
		i.Version = thaw.Latest
	}
	for bit, set := range flagsOf(i) {
		*set = s.Flags&(1<<bit) != 0
	}
	for p := range slices.Chunk(s.Phases, 3) {
		if len(p) < 3 || p[0] < 0 || p[0] >= int64(thaw.NumPhases) {
			return nil, fmt.Errorf("%w: a phase that there is not", errDamaged)
		}
		i.Phases[p[0]] = thaw.Span{Start: us(p[1]), Length: us(p[2])}
	}
	return i, nil
}

// How an id is stored: its first byte says which form it has.
const (
	idUUID = 1 // 8-4-4-4-12 hex digits, as request ids are
	idHex  = 2 // 32 hex digits, as ids of environments are
	idText = 3
)

// packID makes an id short, which none of it is to be compressed.
func packID(id string) []byte {
	if id == "" {
		return nil
	}
	if u, err := uuid.Parse(id); err == nil {
		switch {
		case u.String() == id:
			return append([]byte{idUUID}, u[:]...)
		case len(id) == 32 && unpackID(append([]byte{idHex}, u[:]...)) == id:
			return append([]byte{idHex}, u[:]...)
		}
	}
	return append([]byte{idText}, id...)
}

func unpackID(data []byte) string {
	switch {
	case len(data) == 17 && data[0] == idUUID:
		return uuid.UUID(data[1:]).String()
	case len(data) == 17 && data[0] == idHex:
		return fmt.Sprintf("%x", data[1:])
	case len(data) > 0 && data[0] == idText:
		return string(data[1:])
	}
	return ""
}

// shelfOf is where a function's records are.
func shelfOf(function string, warm bool) string {
	h := fnv.New32a()
	h.Write([]byte(function)) //nolint:errcheck // hashes never fail
	name := "starts."
	if warm {
		name = "warm."
	}
	return fmt.Sprintf("%s%02d", name, h.Sum32()%shelves)
}

// shelvesOf is where a function's records of some kinds are.
func shelvesOf(function string, kinds []thaw.StartKind) []string {
	var list []string
	if len(kinds) == 0 || slices.Contains(kinds, thaw.StartWarm) {
		list = append(list, shelfOf(function, true))
	}
	if len(kinds) == 0 || slices.ContainsFunc(kinds, func(k thaw.StartKind) bool { return k != thaw.StartWarm }) {
		list = append(list, shelfOf(function, false))
	}
	return list
}

// packProfile makes a profile ready to be stored.
func packProfile(p *thaw.InitProfile) ([]byte, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return compress(data), nil
}

func unpackProfile(data []byte) (*thaw.InitProfile, error) {
	data, err := expand(data)
	if err != nil {
		return nil, err
	}
	p := &thaw.InitProfile{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return p, nil
}
