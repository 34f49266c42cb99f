package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"thaw"
)

// maxRecord bounds a function's record, bytes: its versions, aliases, policies and settings together. The store takes
// 8 MiB; the rest is left for what placement writes into the record and for the store's own headers.
const maxRecord = 7 << 20

// update makes one change of a function's record, which the store repeats until it fits. A change that makes a record
// too large is refused; one that makes it smaller never is. A change that gives errNothingToDo writes nothing and succeeds;
// the function is nil then.
func (a *API) update(ctx context.Context, name string, change func(*thaw.Function) error) (*thaw.Function, error) {
	f, err := a.cfg.Functions.UpdateFunction(ctx, name, func(f *thaw.Function) error {
		if err := change(f); err != nil {
			return err
		}
		size, err := recordSize(f)
		if err != nil || size <= maxRecord {
			return err
		}
		if before, ok := a.cfg.Functions.Function(name); ok {
			if had, err := recordSize(before); err != nil || size <= had {
				return err
			}
		}
		return invalid("All that is stored of function %s, its versions, aliases, policies and settings, would take %d bytes, and at most %d can be stored. Delete versions that are not used and send the request again.", name, size, maxRecord)
	})
	if errors.Is(err, errNothingToDo) {
		return nil, nil
	}
	return f, storeError(err)
}

// errNothingToDo ends a change that would write what is there.
var errNothingToDo = errors.New("nothing to do")

func recordSize(f *thaw.Function) (int, error) {
	data, err := json.Marshal(f)
	return len(data), err
}

// functions lists every function, by name.
func (a *API) functions() iter.Seq[*thaw.Function] {
	const page = 1000
	return func(yield func(*thaw.Function) bool) {
		after := ""
		for {
			functions := a.cfg.Functions.Functions(after, page)
			for _, f := range functions {
				if !yield(f) {
					return
				}
			}
			if len(functions) < page {
				return
			}
			after = functions[len(functions)-1].Name
		}
	}
}

// usage counts the functions and the bytes of their versions' packages, leaving out $LATEST of the function named except.
func (a *API) usage(except string) (count, size int64) {
	for f := range a.functions() {
		count++
		if f.Name != except {
			size += f.Config.Code.Size
		}
		for i := range f.Published {
			size += f.Published[i].Code.Size
		}
	}
	return count, size
}
