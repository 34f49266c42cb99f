package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxJournal bounds what a journal may hold; a minute of 50,000 metrics with new values each second is some 60 MB.
const maxJournal = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the file of what is in memory only. Its records are what came in a second: the length and the checksum of four bytes
// each, then for each cell the number of its series in this file (0: a new one follows), its slot and its summary. Each flush begins
// a new file, whose name is the flush's number.
type journal struct {
	dir    string
	number uint64
	file   *os.File
	size   int64
	series map[*series]uint64
	buffer []byte
}

func (j *journal) path(number uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%016x.journal", number))
}

const recordHeader = 8

// begin starts a record.
func (j *journal) begin() { j.buffer = append(j.buffer[:0], make([]byte, recordHeader)...) }

// add puts one cell into the record.
func (j *journal) add(s *series, slot int64, delta *summary) {
	if n, known := j.series[s]; known {
		j.buffer = binary.AppendUvarint(j.buffer, n)
	} else {
		j.series[s] = uint64(len(j.series)) + 1
		j.buffer = appendIdentity(append(j.buffer, 0), &s.identity)
	}
	j.buffer = binary.AppendVarint(j.buffer, slot)
	j.buffer = appendSummary(j.buffer, delta)
}

var (
	errJournalFull = errors.New("the journal is full")
	errNoJournal   = errors.New("the journal could not be written")
)

// write ends the record and hands it to the kernel, from where it survives the end of this process. After a record that is not in the
// file no other can follow: the file may be torn, and would not have the series that the record numbered.
func (j *journal) write() error {
	payload := j.buffer[recordHeader:]
	if len(payload) == 0 {
		return nil
	}
	if j.file == nil {
		return errNoJournal
	}
	if j.size+int64(len(j.buffer)) > maxJournal {
		j.end()
		return errJournalFull
	}
	binary.LittleEndian.PutUint32(j.buffer, uint32(len(payload)))
	binary.LittleEndian.PutUint32(j.buffer[4:], crc32.Checksum(payload, castagnoli))
	n, err := j.file.Write(j.buffer)
	j.size += int64(n)
	if err != nil {
		j.end()
	}
	return err
}

// rotate begins the next file with the record under way, and removes the file before.
func (j *journal) rotate() error {
	old := j.number
	path := j.path(old + 1)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	next := journal{dir: j.dir, number: old + 1, file: file, series: j.series, buffer: j.buffer}
	if err = next.write(); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		// The file before is of no more use than for a recovery, since series have new numbers.
		file.Close()
		os.Remove(path + ".new")
		j.end()
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	*j = next
	os.Remove(j.path(old))
	return nil
}

// forget begins to number series anew, as the next file does.
func (j *journal) forget() { j.series = map[*series]uint64{} }

// end closes the file. It stays, for what is in it and for its number.
func (j *journal) end() {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
}

// recover finds the newest journal of a directory, which is the only one that was not flushed as a whole, and calls fn for each of
// its cells. The number is that of its flush, or 0 where there is none. A torn end, which a kill leaves, is passed over.
func recoverJournal(dir string, fn func(id identity, slot int64, delta *summary)) (number uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".journal"); ok {
			if n, err := strconv.ParseUint(name, 16, 64); err == nil {
				number = max(number, n)
			}
		}
		if strings.HasSuffix(e.Name(), ".journal") || strings.HasSuffix(e.Name(), ".journal.new") {
			names = append(names, e.Name())
		}
	}
	j := journal{dir: dir}
	for _, name := range names {
		if path := filepath.Join(dir, name); path != j.path(number) {
			os.Remove(path)
		}
	}
	if number == 0 {
		return 0, nil
	}
	file, err := os.Open(j.path(number))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return number, readJournal(file, fn)
}

func readJournal(r io.Reader, fn func(id identity, slot int64, delta *summary)) error {
	var known []identity
	var header [recordHeader]byte
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return ended(err)
		}
		length := binary.LittleEndian.Uint32(header[:])
		if length > maxJournal {
			return nil
		}
		payload, err := io.ReadAll(io.LimitReader(r, int64(length)))
		if err != nil {
			return err
		}
		if len(payload) < int(length) || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
			return nil
		}
		d := decoder{data: payload}
		for len(d.data) > 0 {
			n := d.uvarint()
			if n == 0 && d.err == nil {
				known = append(known, d.identity())
				n = uint64(len(known))
			}
			slot := d.varint()
			delta := d.summary()
			if d.err != nil || n > uint64(len(known)) {
				return nil
			}
			fn(known[n-1], slot, &delta)
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
