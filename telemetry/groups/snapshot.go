package groups

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
)

// snapshotVersion is of the form below. Another one is not read: the index is made anew then.
const snapshotVersion = 1

type snapshot struct {
	Version  int
	Sequence uint64
	Groups   map[string]*group
}

// load begins with the snapshot of an earlier start, if there is one that fits the store.
func (x *Index) load(ctx context.Context) {
	if x.cfg.Snapshot == "" {
		return
	}
	data, err := os.ReadFile(x.cfg.Snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s snapshot
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(data)).Decode(&s)
	}
	if err != nil {
		x.cfg.Log.Warn("the index of the logs cannot be read and is made anew", "file", x.cfg.Snapshot, "error", err)
		return
	}
	_, last, err := x.cfg.Store.LogRange(ctx)
	if err != nil || s.Version != snapshotVersion || s.Sequence > last {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.saved = s.Sequence
	for name, g := range s.Groups {
		if g.Streams == nil { // an empty map is not encoded
			g.Streams = map[string]*stream{}
		}
		x.groups[name] = g
		x.streams += len(g.Streams)
	}
	x.move(s.Sequence)
}

// save writes a snapshot if there is something new.
func (x *Index) save() {
	x.mu.Lock()
	if x.saved == x.sequence {
		x.mu.Unlock()
		return
	}
	x.saved = x.sequence
	data := x.encode()
	x.mu.Unlock()
	x.write(data)
}

func (x *Index) encode() []byte {
	if x.cfg.Snapshot == "" {
		return nil
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(snapshot{snapshotVersion, x.sequence, x.groups}); err != nil {
		x.cfg.Log.Error("the index of the logs cannot be encoded", "error", err)
		return nil
	}
	return b.Bytes()
}

// write replaces the snapshot as a whole. One that is not written, or lost, costs the next start some time and nothing else.
func (x *Index) write(data []byte) {
	if data == nil {
		return
	}
	temporary := x.cfg.Snapshot + ".new"
	err := os.WriteFile(temporary, data, 0o600)
	if err == nil {
		err = os.Rename(temporary, x.cfg.Snapshot)
	}
	if err != nil {
		x.cfg.Log.Warn("the index of the logs cannot be kept", "error", err)
	}
}
