package records

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"

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

// Fields of a record in the store, as in a message of Protocol Buffers. The numbers are the format: one that was used is never
// used for something else, and one that is not known is passed over. Lengths of time are in µs; what is zero is left out.
const (
	fieldID          protowire.Number = 1 // see appendID
	fieldFunction    protowire.Number = 2
	fieldVersion     protowire.Number = 3 // left out: $LATEST
	fieldAlias       protowire.Number = 4
	fieldFlags       protowire.Number = 5
	fieldStart       protowire.Number = 6 // Unix time
	fieldKind        protowire.Number = 7
	fieldCause       protowire.Number = 8
	fieldPhase       protowire.Number = 9 // repeated: number, start and length, three varints
	fieldDuration    protowire.Number = 10
	fieldInit        protowire.Number = 11
	fieldRestore     protowire.Number = 12
	fieldBilledInit  protowire.Number = 13 // of the restore
	fieldBilled      protowire.Number = 14
	fieldMemory      protowire.Number = 15
	fieldMaxMemory   protowire.Number = 16
	fieldErrorType   protowire.Number = 17
	fieldEnvironment protowire.Number = 18 // an id
	fieldTrace       protowire.Number = 19
	fieldNode        protowire.Number = 20
	fieldProfile     protowire.Number = 21 // an id
	fieldEventAge    protowire.Number = 22
	fieldFailedInit  protowire.Number = 23
	fieldPostRuntime protowire.Number = 24
)

// flagsOf lists the fields that are the bits of fieldFlags, the lowest first.
func flagsOf(i *thaw.Invocation) [7]*bool {
	return [...]*bool{&i.Provisioned, &i.SpilledOver, &i.Failed, &i.TimedOut, &i.Crashed, &i.Async, &i.NodeFull}
}

// open is a batch that is being made.
type open struct {
	data  []byte
	count int
}

// pack makes batches of records, by shelf.
func pack(records []thaw.Invocation) []state.InvocationBatch {
	var byShelf [2 * shelves]open
	var batches []state.InvocationBatch
	finish := func(shelf int) {
		o := &byShelf[shelf]
		batches = append(batches, state.InvocationBatch{Shelf: shelfName(shelf), Data: compress(o.data)})
		*o = open{data: o.data[:0]}
	}
	var scratch []byte
	for i := range records {
		shelf := shelfOf(records[i].Function, records[i].Kind == thaw.StartWarm)
		o := &byShelf[shelf]
		scratch = appendRecord(scratch[:0], &records[i])
		o.data = protowire.AppendBytes(o.data, scratch)
		if o.count++; o.count == maxBatch {
			finish(shelf)
		}
	}
	for shelf := range byShelf {
		if byShelf[shelf].count > 0 {
			finish(shelf)
		}
	}
	return batches
}

func compress(data []byte) []byte {
	out := make([]byte, 1+s2.MaxEncodedLen(len(data)))
	out[0] = format
	return out[:1+len(s2.Encode(out[1:], data))] // it is large enough to be written to
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

// unpackWith is unpack for those records that hold the given bytes; others are passed over quickly.
func unpackWith(data, needle []byte, fn func(*thaw.Invocation) error) error {
	data, err := expand(data)
	if err != nil {
		return err
	}
	if !bytes.Contains(data, needle) {
		return nil
	}
	for len(data) > 0 {
		record, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		data = data[n:]
		if !bytes.Contains(record, needle) {
			continue
		}
		i, err := parseRecord(record)
		if err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

func appendRecord(b []byte, i *thaw.Invocation) []byte {
	number := func(field protowire.Number, n int64) {
		if n != 0 {
			b = protowire.AppendTag(b, field, protowire.VarintType)
			b = protowire.AppendVarint(b, protowire.EncodeZigZag(n))
		}
	}
	text := func(field protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendTag(b, field, protowire.BytesType)
			b = protowire.AppendString(b, s)
		}
	}
	id := func(field protowire.Number, s string) {
		if s != "" {
			var room [1 + 36]byte
			b = protowire.AppendTag(b, field, protowire.BytesType)
			b = protowire.AppendBytes(b, appendID(room[:0], s))
		}
	}
	id(fieldID, i.RequestID)
	text(fieldFunction, i.Function)
	if i.Version != thaw.Latest {
		text(fieldVersion, i.Version)
	}
	text(fieldAlias, i.Alias)
	var flags int64
	for bit, set := range flagsOf(i) {
		if *set {
			flags |= 1 << bit
		}
	}
	number(fieldFlags, flags)
	number(fieldStart, i.Start.UnixMicro())
	text(fieldKind, string(i.Kind))
	text(fieldCause, string(i.Cause))
	for phase, span := range i.Phases {
		if span.Length == 0 {
			continue
		}
		var room [3 * binary.MaxVarintLen64]byte
		p := protowire.AppendVarint(room[:0], uint64(phase))
		p = protowire.AppendVarint(p, protowire.EncodeZigZag(span.Start.Microseconds()))
		p = protowire.AppendVarint(p, protowire.EncodeZigZag(span.Length.Microseconds()))
		b = protowire.AppendTag(b, fieldPhase, protowire.BytesType)
		b = protowire.AppendBytes(b, p)
	}
	number(fieldDuration, i.Duration.Microseconds())
	number(fieldInit, i.InitDuration.Microseconds())
	number(fieldRestore, i.RestoreDuration.Microseconds())
	number(fieldBilledInit, i.BilledRestore.Microseconds())
	number(fieldBilled, i.Billed.Microseconds())
	number(fieldMemory, int64(i.MemorySize))
	number(fieldMaxMemory, int64(i.MaxMemoryUsed))
	text(fieldErrorType, i.ErrorType)
	id(fieldEnvironment, i.EnvironmentID)
	text(fieldTrace, i.TraceID)
	text(fieldNode, i.Node)
	id(fieldProfile, i.ProfileID)
	number(fieldEventAge, i.EventAge.Microseconds())
	number(fieldFailedInit, i.FailedInit.Microseconds())
	number(fieldPostRuntime, i.PostRuntime.Microseconds())
	return b
}

// parseRecord undoes appendRecord.
func parseRecord(data []byte) (*thaw.Invocation, error) {
	i := &thaw.Invocation{Version: thaw.Latest}
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		data = data[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(data); n >= 0 {
				setNumber(i, field, protowire.DecodeZigZag(v))
			}
		case protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(data); n >= 0 {
				if err := setBytes(i, field, v); err != nil {
					return nil, err
				}
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		data = data[n:]
	}
	return i, nil
}

func setNumber(i *thaw.Invocation, field protowire.Number, n int64) {
	length := time.Duration(n) * time.Microsecond
	switch field {
	case fieldFlags:
		for bit, set := range flagsOf(i) {
			*set = n&(1<<bit) != 0
		}
	case fieldStart:
		i.Start = time.UnixMicro(n).UTC()
	case fieldDuration:
		i.Duration = length
	case fieldInit:
		i.InitDuration = length
	case fieldRestore:
		i.RestoreDuration = length
	case fieldBilledInit:
		i.BilledRestore = length
	case fieldBilled:
		i.Billed = length
	case fieldMemory:
		i.MemorySize = int(n)
	case fieldMaxMemory:
		i.MaxMemoryUsed = int(n)
	case fieldEventAge:
		i.EventAge = length
	case fieldFailedInit:
		i.FailedInit = length
	case fieldPostRuntime:
		i.PostRuntime = length
	}
}

func setBytes(i *thaw.Invocation, field protowire.Number, v []byte) error {
	switch field {
	case fieldID:
		i.RequestID = idOf(v)
	case fieldFunction:
		i.Function = string(v)
	case fieldVersion:
		i.Version = string(v)
	case fieldAlias:
		i.Alias = string(v)
	case fieldKind:
		i.Kind = thaw.StartKind(v)
	case fieldCause:
		i.Cause = thaw.Cause(v)
	case fieldPhase:
		return setPhase(i, v)
	case fieldErrorType:
		i.ErrorType = string(v)
	case fieldEnvironment:
		i.EnvironmentID = idOf(v)
	case fieldTrace:
		i.TraceID = string(v)
	case fieldNode:
		i.Node = string(v)
	case fieldProfile:
		i.ProfileID = idOf(v)
	}
	return nil
}

func setPhase(i *thaw.Invocation, data []byte) error {
	var v [3]uint64
	for k := range v {
		n := 0
		if v[k], n = protowire.ConsumeVarint(data); n < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		data = data[n:]
	}
	if v[0] < uint64(thaw.NumPhases) { // one of a newer form is passed over
		i.Phases[v[0]] = thaw.Span{
			Start:  time.Duration(protowire.DecodeZigZag(v[1])) * time.Microsecond,
			Length: time.Duration(protowire.DecodeZigZag(v[2])) * time.Microsecond,
		}
	}
	return nil
}

// How an id is stored: its first byte says which form it has.
const (
	idUUID = 1 // 8-4-4-4-12 hex digits, as request ids are
	idHex  = 2 // 32 hex digits, as ids of environments are
	idText = 3
)

// appendID makes an id short: what is random cannot be compressed.
func appendID(b []byte, id string) []byte {
	var digits [32]byte
	form := byte(idText)
	switch len(id) {
	case 36:
		if id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
			form = idUUID
			at := 0
			for _, part := range [...]string{id[:8], id[9:13], id[14:18], id[19:23], id[24:]} {
				at += copy(digits[at:], part)
			}
		}
	case 32:
		form = idHex
		copy(digits[:], id)
	}
	start := len(b)
	b = append(b, form)
	if form == idText {
		return append(b, id...)
	}
	for k := 0; k < len(digits); k += 2 {
		high, low := hexValue(digits[k]), hexValue(digits[k+1])
		if high > 15 || low > 15 {
			b = append(b[:start], idText)
			return append(b, id...)
		}
		b = append(b, high<<4|low)
	}
	return b
}

// hexValue is the value of a lower-case hex digit, more than 15 for anything else.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// idOf undoes appendID.
func idOf(data []byte) string {
	switch {
	case len(data) == 17 && data[0] == idUUID:
		return uuid.UUID(data[1:]).String()
	case len(data) == 17 && data[0] == idHex:
		return hex.EncodeToString(data[1:])
	case len(data) > 0 && data[0] == idText:
		return string(data[1:])
	}
	return ""
}

// shelfOf is where a function's records are: on one of the first shelves if they are warm, else on one of as many others.
func shelfOf(function string, warm bool) int {
	h := uint32(2166136261) // FNV-1a
	for k := range len(function) {
		h = (h ^ uint32(function[k])) * 16777619
	}
	shelf := int(h % shelves)
	if !warm {
		shelf += shelves
	}
	return shelf
}

func shelfName(shelf int) string {
	if shelf < shelves {
		return "warm." + strconv.Itoa(shelf)
	}
	return "starts." + strconv.Itoa(shelf-shelves)
}

// shelvesOf is where a function's records of some kinds are.
func shelvesOf(function string, kinds []thaw.StartKind) []string {
	var list []string
	if len(kinds) == 0 || slices.Contains(kinds, thaw.StartWarm) {
		list = append(list, shelfName(shelfOf(function, true)))
	}
	if len(kinds) == 0 || slices.ContainsFunc(kinds, func(k thaw.StartKind) bool { return k != thaw.StartWarm }) {
		list = append(list, shelfName(shelfOf(function, false)))
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
