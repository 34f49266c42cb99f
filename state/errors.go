package state

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go/jetstream"

	"thaw"
)

// What the methods of this package return besides the error of a context that ended. Compare with errors.Is; the error
// that carries one of these names what it is about and what to do.
var (
	// ErrNotFound: no function, record or package of that name.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name to be created is taken.
	ErrExists = errors.New("exists already")
	// ErrBusy: more is waiting to be written than the bound allows; the data was dropped.
	ErrBusy = errors.New("too much is waiting to be written")
	// ErrLocked: another process uses the data directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrNewerVersion: the data was written by a newer thaw.
	ErrNewerVersion = errors.New("data is of a newer version")
	// ErrFull: the disk has no room for the write; what was stored before is untouched. It is what API callers are told
	// too, since they can do something about it.
	ErrFull error = &thaw.Error{Code: thaw.CodeService, Message: "The disk of the platform's data directory is full. Nothing was changed. Delete functions or free some space there, then try again."}
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// storeError gives an error of the engine its sentinel and says what was being done.
func (s *Store) storeError(doing string, err error) error {
	if broken := s.room.failure(); broken != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s: %w", doing, broken)
	}
	if isFull(err) {
		return fmt.Errorf("%s: %w: free some space, then restart thaw: %w", doing, ErrFull, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isFull reports whether the engine ran out of room. Over the API it passes the kernel's error on as text only.
func isFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	return api.ErrorCode == errCodeInsufficientResources || api.ErrorCode == errCodeStorageExceeded ||
		strings.Contains(api.Description, syscall.ENOSPC.Error())
}

// Codes of the server's errors.json that the client has no names for.
const (
	errCodeInsufficientResources jetstream.ErrorCode = 10023
	errCodeStorageExceeded       jetstream.ErrorCode = 10047
)
