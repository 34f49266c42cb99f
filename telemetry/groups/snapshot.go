package groups

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"io"
	"io/fs"
	"os"
)

// snapshotVersion is of the form below. Another one is not read: the index is made anew then.
const snapshotVersion = 2

// A snapshot file is a checksum of what follows, 32 bytes, and a snapshot as gob. What has no such beginning is never decoded:
// a damaged length in gob would be taken for how much memory to ask for.
type snapshot struct {
	Version  int
	Sequence uint64
	Groups   map[string]*group
	Unerased []erasure
}

// maxSnapshot is the largest file that is read, bytes: MaxStreams streams have some 25 MB, with the longest names 75.
const maxSnapshot = 256 << 20

// load begins with the snapshot of an earlier start, if there is one that fits the store.
func (x *Index) load(ctx context.Context) {
	if x.cfg.Snapshot == "" {
		return
	}
	s, err := readSnapshot(x.cfg.Snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return
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
	x.saved, x.unerased = s.Sequence, s.Unerased
	for name, g := range s.Groups {
		if g.Streams == nil { // an empty map is not encoded
			g.Streams = map[string]*stream{}
		}
		x.groups[name] = g
		x.streams += len(g.Streams)
	}
	x.move(s.Sequence)
}

func readSnapshot(name string) (s snapshot, err error) {
	file, err := os.Open(name)
	if err != nil {
		return s, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	data, err := io.ReadAll(io.LimitReader(file, maxSnapshot))
	if err != nil {
		return s, err
	}
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data) {
		return s, errors.New("it is damaged, or of another version")
	}
	err = gob.NewDecoder(bytes.NewReader(data[sha256.Size:])).Decode(&s)
	return s, err
}

// due reports whether a snapshot is to be written.
func (x *Index) due() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.dueLocked()
}

func (x *Index) dueLocked() bool { return x.cfg.Snapshot != "" && x.sequence-x.saved >= saveAfter }

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
	b.Write(make([]byte, sha256.Size))
	if err := gob.NewEncoder(&b).Encode(snapshot{snapshotVersion, x.sequence, x.groups, x.unerased}); err != nil {
		x.cfg.Log.Error("the index of the logs cannot be encoded", "error", err)
		return nil
	}
	data := b.Bytes()
	sum := sha256.Sum256(data[sha256.Size:])
	copy(data, sum[:])
	return data
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
