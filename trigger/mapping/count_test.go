package mapping

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"thaw/state/queues"
)

// counted is what a runner told of its mapping: the sum and the number of the values of each metric.
type counted map[string][]int

func (c counted) String() string {
	var all []string
	for metric, values := range c {
		sum := 0
		for _, n := range values {
			sum += n
		}
		all = append(all, fmt.Sprintf("%s %d in %d", strings.TrimSuffix(metric, "EventCount"), sum, len(values)))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestEventsAreCounted(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Mapping)
		serve  func(attempt int) (Result, error)
		want   string
	}{
		{
			name: "all is well", change: func(*Mapping) {},
			serve: func(int) (Result, error) { return Result{}, nil },
			want:  "Deleted 3 in 1, Invoked 3 in 1, Polled 3 in 3", // two of them brought none
		},
		{
			name: "filtered", change: func(m *Mapping) { m.Filters = []string{`{"body":["a","b"]}`} },
			serve: func(int) (Result, error) { return Result{}, nil },
			want:  "Deleted 2 in 1, FilteredOut 1 in 1, Invoked 2 in 1, Polled 3 in 3",
		},
		{
			name: "failed", change: func(*Mapping) {},
			serve: func(attempt int) (Result, error) { return Result{FunctionError: attempt == 1}, nil },
			want:  "Deleted 3 in 1, FailedInvoke 3 in 1, Invoked 6 in 2, Polled 6 in 3",
		},
		{
			name: "failed in part", change: func(m *Mapping) { m.ReportFailures = true },
			serve: func(attempt int) (Result, error) {
				if attempt == 1 {
					return Result{Payload: []byte(`{"batchItemFailures":[{"itemIdentifier":"id-b"}]}`)}, nil
				}
				return Result{}, nil
			},
			want: "Deleted 3 in 2, FailedInvoke 1 in 1, Invoked 4 in 2, Polled 4 in 3",
		},
		{
			name: "throttled", change: func(*Mapping) {},
			serve: func(attempt int) (Result, error) {
				if attempt == 1 {
					return Result{}, errThrottled
				}
				return Result{}, nil
			},
			want: "Deleted 3 in 1, FailedInvoke 3 in 1, Invoked 6 in 2, Polled 3 in 3",
		},
		{
			name: "not asked for", change: func(m *Mapping) { m.CountEvents = false },
			serve: func(int) (Result, error) { return Result{}, nil },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, queues.Options{})
				got, attempt := counted{}, 0
				b.count = func(uuid, metric string, n int) {
					if uuid != b.mapping().UUID {
						t.Errorf("of the mapping %s", uuid)
					}
					b.mu.Lock()
					defer b.mu.Unlock()
					got[metric] = append(got[metric], n)
				}
				b.serve = func(context.Context, []string) (Result, error) {
					attempt++
					return test.serve(attempt)
				}
				b.queue.send("a", "b", "c")
				_, stop := b.run(func(m *Mapping) { m.CountEvents = true }, test.change)
				pass(45 * time.Second)
				stop(drain)
				if got.String() != test.want {
					t.Errorf("counted %s\nwant    %s", got, test.want)
				}
				b.wantLeft("")
			})
		})
	}
}

// failing is a source whose messages cannot be deleted.
type failing struct{ source }

func (failing) done(context.Context, []message) error { return fmt.Errorf("gone") }

func TestWhatCannotBeDeletedCountsAsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, queues.Options{})
		got := counted{}
		b.count = func(_, metric string, n int) { got[metric] = append(got[metric], n) }
		l, err := New(b.config())
		if err != nil {
			t.Fatal(err)
		}
		r := newRunner(t.Context(), l, b.mapping(func(m *Mapping) { m.CountEvents = true }))
		r.processed(failing{}, []message{{id: "1"}, {id: "2"}})
		r.end(drain)
		r.cut()
		if got.String() != "Deleted 0 in 1" {
			t.Error(got)
		}
	})
}
